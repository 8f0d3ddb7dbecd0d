"""Real `celery -A worker worker` processes, to be stopped, killed, frozen and thawed.

    with Fleet(folder, database_url=…, broker_url=…, telnyx_base_url=…, telnyx_api_key=…) as fleet:
        anna, mike = fleet.start(2)
        fleet.send({"version": 1, …})
        anna.kill()

No process outlives the fleet, nor the process that made it.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from celery import Celery
from redis import Redis, RedisError

from tests.support.databases import fresh_database
from tests.support.forked import ForkedProcess
from tests.support.processes import eventually, open_folder
from tests.support.tcp_proxy import TcpProxy, through
from tests.support.world import NAMESPACE, Database
from worker.net.child_process import ChildProcess
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.simulator import Simulator, SimulatorConfig
from worker.sandbox.simulator.record.events import RequestReceived

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 60.0
TIMING = """
[timing]
send_grace_s = 0.5
lease_margin_s = 1.5
execution_limit_s = 1.5
quiet_margin_s = 0.5
settle_s = 0.5
give_up_after_s = 90
look_first_s = 0.2
look_limit_s = 1.0
heartbeat_s = 0.5
alive_s = 1.5
sweep_s = 0.2
wake_ttl_s = 1.0
"""
"""About a tenth of every wait, so that what heals does it while a test waits."""


def queued(app: Celery, envelopes: Iterable[Mapping[str, object]]) -> Iterator[None]:
    """Queue envelopes as an app of somebody else does; yields after each."""
    with app.producer_pool.acquire(block=True) as producer:
        for envelope in envelopes:
            arguments = {"envelope": dict(envelope)}
            app.send_task("messages.receive", kwargs=arguments, queue="inbound", producer=producer)
            yield


def agents_file(call_timeout_s: float = 5.0, more: str = "") -> str:
    """Give an agents file whose waits are about a tenth of the usual ones."""
    return f"[agents.default]\ncall_timeout_s = {call_timeout_s}\n{more}\n{TIMING}"


@dataclass
class RealWorker:
    """One worker process."""

    name: str
    process: ForkedProcess | ChildProcess
    log: Path
    broker_url: str

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.is_running

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative = the signal that ended it."""
        return self.process.exit_code

    @property
    def is_ready(self) -> bool:
        """Whether it has said that it consumes."""
        return f"{self.name} ready." in self.output()

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def terminate(self) -> None:
        """Ask it to end: Celery's warm shutdown. It does not wait."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL; it is gone on return, and Redis knows it, where there is a Redis.

        What is pushed in the same round of its loop Redis hands to the dead connection, where it is
        lost: docs/explanation/what-accepted-means.md. With its answer to a PING it knows.
        """
        self.process.kill()
        with (
            suppress(RedisError, ValueError),
            Redis.from_url(self.broker_url, socket_timeout=2) as redis,
        ):
            redis.ping()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def wait(self, timeout_s: float = 30.0) -> int | None:
        """Wait for its end; the exit code, None when it still runs."""
        self.process.wait(timeout_s)
        return self.exit_code


@dataclass(kw_only=True)
class Fleet:
    """Worker processes on the same Postgres, Redis and Telnyx, and a producer for them."""

    folder: Path
    """Where logs and agents files go."""
    database_url: str
    broker_url: str
    telnyx_base_url: str
    telnyx_api_key: str
    agents: str = field(default_factory=agents_file)
    """The text of the agents file."""
    concurrency: int = 20
    """16 fewer turns run at once in each process."""
    options: tuple[str, ...] = ("--without-mingle", "--without-gossip")
    """Of Celery's command line; these two save a second at the start."""
    forked: bool = True
    """Not for tests of what a start of the program itself does."""
    python: tuple[str, ...] = (sys.executable,)
    """What starts a worker that is not forked: another release's, for one."""
    workers: list[RealWorker] = field(default_factory=list)
    """All that were ever started."""
    _numbers: Any = field(default_factory=count)
    _producer: Celery | None = None

    def start(self, number: int = 1, *, ready: bool = True, **env: str) -> list[RealWorker]:
        """Start worker processes, and wait until they consume; `env` overrides their settings."""
        started = [self._launch(env) for _ in range(number)]
        if ready:
            self.wait_ready(*started)
        return started

    def wait_ready(self, *workers: RealWorker) -> None:
        """Return when they consume. AssertionError where one ends, or takes too long."""
        deadline = time.monotonic() + START_TIMEOUT_S
        for worker in workers:
            while not worker.is_ready:
                assert worker.is_running, f"it ended:\n{worker.output()[-3000:]}"
                assert time.monotonic() < deadline, f"not ready:\n{worker.output()[-3000:]}"
                time.sleep(0.02)

    def send(self, *envelopes: Mapping[str, object]) -> None:
        """Queue envelopes as a producer does."""
        for _ in queued(self.producer, envelopes):
            pass

    @property
    def producer(self) -> Celery:
        """A Celery app of somebody else on the same broker."""
        if self._producer is None:
            self._producer = Celery("producer", broker=self.broker_url, set_as_current=False)
            self._producer.conf.broker_transport_options = {"socket_timeout": 5}
        return self._producer

    def running(self) -> list[RealWorker]:
        return [worker for worker in self.workers if worker.is_running]

    def wait_for(self, condition: Callable[[], bool], *, seconds: float = 40.0) -> None:
        """Wait for something that the workers do; AssertionError with what they do instead."""
        if not eventually(condition, timeout_s=seconds):
            raise AssertionError(f"it did not happen in {seconds} s\n{self.report()}")

    def report(self) -> str:
        """Tell the ends of all logs, with the stacks of the threads that run; the newest last."""
        for worker in self.running():
            worker.process.send_signal(signal.SIGUSR1)  # Celery prints every thread's stack
        time.sleep(1.0)
        return "\n".join(
            f"--- {one.name}, exit code {one.exit_code}\n"
            + one.output()[-(12000 if one.is_running else 1500) :]
            for one in self.workers[-6:]
        )

    def stop(self) -> None:
        """Kill whatever still runs."""
        for worker in self.workers:
            worker.kill()
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self, env: Mapping[str, str]) -> RealWorker:
        number = next(self._numbers)
        name = f"worker{number}@fleet-{os.getpid()}"
        agents = self.folder / f"fleet-agents-{number}.toml"
        agents.write_text(self.agents)
        log = self.folder / f"fleet-worker-{number}.log"
        settings = {
            "DATABASE_URL": self.database_url,
            "DATABASE_PREPARE": "true",
            "BROKER_URL": self.broker_url,
            "TELNYX_BASE_URL": self.telnyx_base_url,
            "TELNYX_API_KEY": self.telnyx_api_key,
            "NAMESPACE": str(NAMESPACE),
            "AGENTS_FILE": str(agents),
            "CONCURRENCY": str(self.concurrency),
            "SANDBOX_DIR": str(self.folder / "no-sandbox"),
            "PYTHONPATH": str(ROOT),
        }
        program = ("celery", "-A", "worker", "worker", "-n", name, *self.options)
        env = {**os.environ, **settings, **env}
        process = (
            ForkedProcess(*program, log=log, env=env)
            if self.forked
            else ChildProcess([*self.python, "-m", *program], log=log, env=env)
        )
        worker = RealWorker(name=name, process=process, log=log, broker_url=self.broker_url)
        self.workers.append(worker)
        return worker


@dataclass(kw_only=True)
class Ground:
    """A fleet, and what its workers stand on, looked at from outside."""

    fleet: Fleet
    database: Database
    simulator: Simulator
    _numbers: Any = field(default_factory=lambda: count(1))

    def user(self) -> str:
        """Make up an address that nobody has used."""
        return f"user{next(self._numbers)}@example.org"

    def envelope(self, text: str, *, user: str, **fields: object) -> dict[str, object]:
        number = next(self._numbers)
        made = {"version": 1, "channel": "web", "user": user, "message_id": f"m-{number}"}
        return {**made, "text": text, **fields}

    def at_least(self, number: int) -> list[RealWorker]:
        """Have so many workers that run and consume, and give exactly those."""
        missing = number - len(self.fleet.running())
        self.fleet.start(max(missing, 0))
        for surplus in self.fleet.running()[number:]:
            surplus.kill()
        return self.fleet.running()

    def wait_for_call(self, text: str) -> RealWorker:
        """Wait until Telnyx has received the call with this text; gives the worker that made it."""

        def received() -> bool:
            return any(
                isinstance(entry.event, RequestReceived)
                and entry.event.endpoint == "responses"
                and text in str(entry.event.body)
                for entry in self.simulator.log()
            )

        self.fleet.wait_for(received)
        pid = self.database.value(
            "SELECT w.pid FROM calls c JOIN workers w ON w.id = c.worker_id JOIN turns t"
            " ON t.id = c.turn_id WHERE t.input_text LIKE %s ORDER BY c.id DESC LIMIT 1",
            f"%{text}%",
        )
        (worker,) = [one for one in self.fleet.workers if one.pid == pid]
        return worker

    def outcomes(self, *users: str) -> list[str | None]:
        """How the messages of these users ended."""
        return [
            row["outcome"]
            for row in self.database.rows(
                "SELECT m.outcome FROM messages m JOIN channel_users u ON u.id = m.channel_user_id"
                " WHERE u.address = ANY(%s) ORDER BY m.id",
                list(users),
            )
        ]

    def wait_until_final(self, *users: str, messages: int, seconds: float = 40.0) -> None:
        """Wait until these users' messages, so many in all, have an outcome."""

        def final() -> bool:
            outcomes = self.outcomes(*users)
            return len(outcomes) == messages and None not in outcomes

        if not eventually(final, timeout_s=seconds):
            raise AssertionError(
                f"not final in {seconds} s: {len(self.outcomes(*users))} of {messages} accepted\n"
                f"{self.fleet.report()}\n{self.unfinished()}"
            )

    def unfinished(self) -> str:
        """Tell what waits in Postgres and in Redis, without what people wrote."""
        waiting = self.database.rows(
            "SELECT u.*, c.state AS call, m.id AS message FROM channel_users u"
            " JOIN messages m ON m.channel_user_id = u.id AND m.outcome IS NULL"
            " LEFT JOIN calls c ON c.turn_id = u.open_turn_id ORDER BY m.id LIMIT 5"
        )
        dead = self.database.rows("SELECT reason, detail FROM dead_letters")
        with Redis.from_url(self.fleet.broker_url) as redis:
            queues = {name: redis.llen(name) for name in ("inbound", "turns", "deliveries")}
            return f"{waiting}\n{dead}\n{queues}, unacked: {redis.hkeys('unacked')}"

    def sources(self, user: str) -> list[str]:
        """Where this user's replies came from, in order."""
        return [
            row["source"]
            for row in self.database.rows(
                "SELECT r.source FROM replies r JOIN turns t ON t.id = r.turn_id JOIN channel_users"
                " u ON u.id = t.channel_user_id WHERE u.address = %s ORDER BY r.id",
                user,
            )
        ]

    def said(self, user: str) -> list[str]:
        """What this user said at Telnyx, line by line, in all their conversations."""
        found = self.database.rows(
            "SELECT c.telnyx_conversation_id AS id FROM conversations c JOIN channel_users u"
            " ON u.id = c.channel_user_id WHERE u.address = %s"
            " AND telnyx_conversation_id IS NOT NULL ORDER BY c.id",
            user,
        )
        return [
            line
            for row in found
            for message in self.simulator.messages(str(row["id"]))
            if message.role == "user"
            for line in (message.text or "").split("\n")
        ]


@contextmanager
def running_fleet(
    folder: Path,
    *,
    database_url: str,
    broker_url: str,
    simulator: Simulator,
    agents: str,
    looked_at: str | None = None,
) -> Iterator[Ground]:
    """Have a fleet, still without workers. `looked_at`: the database's URL without a proxy."""
    with Fleet(
        folder=folder,
        database_url=database_url,
        broker_url=broker_url,
        telnyx_base_url=simulator.base_url,
        telnyx_api_key=simulator.api_key,
        agents=agents,
    ) as fleet:
        database = Database(looked_at or database_url)
        try:
            yield Ground(fleet=fleet, database=database, simulator=simulator)
        finally:
            fleet.stop()
            database.close()


@contextmanager
def fresh_ground(
    postgres: EmbeddedPostgres,
    *,
    broker_url: str,
    agents: str,
    proxy: TcpProxy | None = None,
    simulated: SimulatorConfig | None = None,
) -> Iterator[Ground]:
    """Have a fleet with a database, a folder and a simulator of its own, still without workers.

    `proxy`: what stands between the workers and Postgres.
    """
    with (
        open_folder() as folder,
        fresh_database(postgres) as url,
        Simulator(simulated or SimulatorConfig(list_visible_after_s=0)) as simulator,
        running_fleet(
            folder,
            database_url=through(proxy, url) if proxy else url,
            looked_at=url,
            broker_url=broker_url,
            simulator=simulator,
            agents=agents,
        ) as ground,
    ):
        yield ground
