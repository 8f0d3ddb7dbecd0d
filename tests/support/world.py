"""A small world to test the handlers in: real Postgres, the simulator, time that the test moves.

world.clock.advance(30)                    the database's time; local deadlines stay real
mike = world.worker()                      a worker process's parts, driven by hand
mike.receive(world.envelope("hello"))      what the task messages.receive does
mike.answer()                              what wakes do, for everybody who is due
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from tests.support.databases import REPLACE_CLOCK
from tests.support.slots import taken
from worker.bootstrap.operator import Operator
from worker.bootstrap.service import Service, build_service
from worker.channels.channel import Channel
from worker.config.settings import Settings
from worker.domain.ids import ChannelUserId
from worker.domain.messages import Accepted
from worker.sandbox.simulator.behaviour.config import SimulatorConfig
from worker.sandbox.simulator.record.events import RequestReceived
from worker.sandbox.simulator.serving.simulator import Simulator
from worker.store.turns.due_users import Due

NAMESPACE = UUID("11111111-2222-4333-8444-555555555555")
USER = "+13125550001"


class Database:
    """Looking into Postgres from outside, as an operator would."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = psycopg.connect(url, autocommit=True, row_factory=dict_row)

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        return self._connection.execute(query, values).fetchall()  # type: ignore[call-overload,no-any-return]

    def value(self, query: str, *values: object) -> Any:  # noqa: ANN401 # whatever is in the column
        (row,) = self.rows(query, *values)
        (value,) = row.values()
        return value

    def run(self, statement: str, *values: object) -> None:
        self._connection.execute(statement, values)  # type: ignore[call-overload]

    def close(self) -> None:
        self._connection.close()


class Clock:
    """The database's time, which the service reads through `service_now()`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        if database.value("SELECT to_regclass('test_clock') IS NULL"):
            database.run(REPLACE_CLOCK)

    def advance(self, seconds: float) -> None:
        self._database.run(
            "UPDATE test_clock SET ahead = ahead + make_interval(secs => %s)", seconds
        )


def bring_forward(database: Database, seconds: float) -> None:
    """Make all that waits due so much earlier, and deliveries' leases end, for real workers.

    They notice a clock that jumps, and what is due stays as far ahead as it was then.
    """
    for table, column in (
        ("gates", "closed_until"),
        ("channel_users", "due_at"),
        ("deliveries", "due_at"),
        ("deliveries", "lease_until"),
    ):
        database.run(f"UPDATE {table} SET {column} = {column} - make_interval(secs => {seconds})")


@dataclass
class RecordingBroker:
    """Stands for Celery and Redis: what was published, for the test to follow or to lose."""

    woken: list[Due] = field(default_factory=list)
    submitted: list[Callable[[], None]] = field(default_factory=list)
    """Turns that no wake is published for."""
    deliveries: list[ChannelUserId] = field(default_factory=list)
    tasks: list[tuple[str, str, str, dict[str, Any]]] = field(default_factory=list)

    def submit(self, work: Callable[..., None], *args: object) -> Future[None]:
        self.submitted.append(lambda: work(*args))
        return Future()

    def wake(self, due: Sequence[Due]) -> None:
        self.woken.extend(due)

    def wake_delivery(self, user_id: ChannelUserId) -> None:
        self.deliveries.append(user_id)

    def taken_entries(self) -> int:
        return 0

    def is_saturated(self) -> bool:
        return False

    def waiting_entries(self) -> int:
        return 0

    def publish(self, task: str, queue: str, task_id: str, kwargs: dict[str, Any]) -> None:
        self.tasks.append((task, queue, task_id, kwargs))


@dataclass(kw_only=True)
class HandDrivenWorker:
    """One worker's parts without its threads: the test says what happens when."""

    service: Service
    operator: Operator
    broker: RecordingBroker

    def receive(self, envelope: Mapping[str, object]) -> Accepted | None:
        raw = json.dumps([[], {"envelope": envelope}, {}]).encode()
        return self.service.receive(envelope, raw=lambda: raw, queue="inbound").accepted

    def accept_only(self, envelope: Mapping[str, object]) -> Accepted | None:
        """Receive as a worker without a free slot does: the turn is left to others."""
        with taken(self.service.receive.slots):
            return self.receive(envelope)

    def sweep(self) -> int:
        """One sweep, and the turns it asked for are worked at once; gives their number."""
        self.service.background.sweep()
        due, self.broker.woken[:] = list(self.broker.woken), []
        here, self.broker.submitted[:] = list(self.broker.submitted), []
        for one in due:
            self.service.answer(*one)
        for turn in here:
            turn()
        self.deliver()
        return len(due) + len(here)

    def deliver(self) -> None:
        """Follow the wakes of deliveries."""
        users, self.broker.deliveries[:] = list(self.broker.deliveries), []
        for user in users:
            self.service.deliver(user)

    def answer(self, *, rounds: int = 20) -> None:
        """Sweep until nobody is due."""
        for _ in range(rounds):
            if self.sweep() == 0:
                return
        raise AssertionError("still somebody due after many rounds")


@dataclass(kw_only=True)
class World:
    """What the handlers live in."""

    database: Database
    clock: Clock
    simulator: Simulator
    folder: Path
    broker_url: str = "redis://127.0.0.1:1/0"
    """Nobody is there, unless a test brings one: only live replies go there."""
    public_url: str = "http://127.0.0.1:1"
    """Of the gateway: likewise."""
    console_url: str | None = None
    smtp_url: str | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _opened: list[Service | Operator] = field(default_factory=list)

    def worker(
        self,
        config: str = "",
        *,
        change: Callable[[Service], Service] | None = None,
        channels: Mapping[str, Channel] | None = None,
        beats: bool = True,
    ) -> HandDrivenWorker:
        """Start a worker; `beats`: with a row. `config`: the text of an agents file."""
        agents = self.folder / f"agents-{next(self._numbers)}.toml"
        agents.write_text(config)
        broker = RecordingBroker()
        service = build_service(self.settings(agents), broker=broker, channels=channels)
        operator = Operator(self.settings(agents))
        self._opened += [service, operator]
        if beats:
            service.background.workers.beat()
        return HandDrivenWorker(
            service=change(service) if change else service, operator=operator, broker=broker
        )

    def settings(self, agents_file: Path | None = None) -> Settings:
        return Settings(
            database_url=self.database.url,
            broker_url=self.broker_url,
            telnyx_api_key=self.simulator.api_key,
            telnyx_base_url=self.simulator.base_url,
            namespace=NAMESPACE,
            agents_file=agents_file,
            public_url=self.public_url,
            console_url=self.console_url,
            smtp_url=self.smtp_url,
        )

    def envelope(self, text: str, *, user: str = USER, **fields: object) -> dict[str, object]:
        return {
            "version": 1,
            "channel": "sms" if user.startswith("+") else "web",
            "user": user,
            "message_id": f"m-{next(self._numbers)}",
            "text": text,
            **fields,
        }

    def requests(self) -> list[str]:
        """What Telnyx was asked for, in order, by endpoint."""
        events = (entry.event for entry in self.simulator.log())
        return [event.endpoint for event in events if isinstance(event, RequestReceived)]

    def compare_with_telnyx(self, worker: HandDrivenWorker) -> bool:
        """Let a worker ask Telnyx for conversations that are unknown here; whether there is none.

        A process asks only every few seconds, and knows Postgres' clock afterwards: to move it on
        is a jump then.
        """
        self.clock.advance(16)  # settle_s
        worker.service.background.watch.beat()
        worker.service.background.ask_telnyx()
        return bool(self.database.value("SELECT complete_at >= asked_at FROM cluster"))

    def inputs(self) -> list[str]:
        """The user items in all of Telnyx's threads, thread by thread, in order."""
        return [
            message.text
            for conversation in self.simulator.conversations()
            for message in self.simulator.messages(conversation.id)
            if message.role == "user"
        ]

    def replies(self) -> list[dict[str, Any]]:
        return self.database.rows("SELECT text, source, turn_id FROM replies ORDER BY id")

    def messages(self) -> list[dict[str, Any]]:
        return self.database.rows(
            "SELECT envelope->>'text' AS text, state, outcome, late FROM messages ORDER BY id"
        )

    def close(self) -> None:
        for opened in self._opened:
            opened.close()


@contextmanager
def running_world(database_url: str, folder: Path, config: SimulatorConfig) -> Iterator[World]:
    """Build a world on a migrated database."""
    database = Database(database_url)
    with Simulator(config) as simulator:
        world = World(database=database, clock=Clock(database), simulator=simulator, folder=folder)
        try:
            yield world
        finally:
            world.close()
            database.close()
