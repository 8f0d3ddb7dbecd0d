"""Kinds of input that reach the service through its broker and its inbox."""

import base64
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from prometheus_client import Counter as Metric

from tests.fuzz.mutate import damaged, json_damaged
from tests.support.envelopes import INVALID, VALID, WIRE
from tests.support.slots import taken
from tests.support.world import HandDrivenWorker, World
from worker.domain.reasons import DeadLetterReason
from worker.observability import metrics
from worker.queue.gate.entry import RejectedEntry
from worker.queue.gate.gate import DEAD_LETTER_TASK, EntryGate, GatedMessage, broadcast

FIXTURES = Path(__file__).parents[1] / "fixtures" / "redis_entries"
ENTRIES = [path.read_bytes() for path in sorted(FIXTURES.glob("*.bin"))]
ENTRIES += [path.read_bytes() for path in WIRE]
REASONS = {reason.value for reason in DeadLetterReason}


class Receive:
    """The task, as the gate sees it."""

    def run(self, envelope: object) -> None: ...


class Keep:
    """The other one."""

    def run(self, raw: str, reason: str, detail: str, queue: str) -> None: ...


class QueueEntries:
    """What anyone may push onto Redis: through the gate, then what its task does."""

    share = 0.3
    batch = 1

    def __init__(self, world: World, worker: HandDrivenWorker) -> None:
        self._world = world
        self._worker = worker
        self._gate = EntryGate(
            tasks=lambda: {"messages.receive": Receive(), DEAD_LETTER_TASK: Keep()},
            accepts={"inbound": {"messages.receive"}},
        )
        self._documents = list(chain(VALID.values(), INVALID.values()))

    def one(self, random: Random) -> bytes:
        """Damage an entry, or put a damaged envelope into an intact one."""
        if random.random() < 0.5:
            return damaged(random.choice(ENTRIES), random, ENTRIES)
        envelope = json_damaged(random.choice(self._documents), random)
        body = (
            damaged(json.dumps([[], {"envelope": envelope}, {}]).encode(), random, ENTRIES)
            if random.random() < 0.3
            else json.dumps([[], {"envelope": envelope}, {}]).encode()
        )
        made = json.loads(WIRE[0].read_bytes()) | {"body": base64.b64encode(body).decode()}
        return json.dumps(made).encode()

    def feed(self, inputs: Sequence[bytes]) -> Iterable[str]:
        """Admit it, as it comes and as it comes back, and run the task."""
        for raw in inputs:
            message = self._gate.admit(raw, queue="inbound", priority=0)
            again = self._gate.admit(json.dumps(message).encode(), queue="inbound", priority=0)
            assert again.payload == message.payload, "it comes back as another message"
            assert GatedMessage(message, channel=None).payload == message.payload
            yield self._run(message.payload, message.body, message["headers"]["task"])

    def _run(self, payload: Any, body: bytes, task: str) -> str:  # noqa: ANN401 # JSON
        service = self._worker.service
        args, kwargs, _ = payload
        if task == DEAD_LETTER_TASK:
            letter = RejectedEntry.from_args(args)
            service.dead_letters.keep(
                reason=letter.reason, raw=letter.raw, detail=letter.detail, queue=letter.queue
            )
            return "letter"
        (document,) = (*args, *kwargs.values())
        received = service.receive(document, raw=lambda: body, queue="inbound")
        if received.accepted is not None:
            return "accepted" if received.accepted.fresh else "repeated"
        return "held" if received.result.startswith("held ") else "letter"

    def audit(self, outcomes: Counter[str]) -> None:
        """Each has a row, or is a repetition of one that has."""
        check_rows(self._world, outcomes)


class SqlEnvelopes:
    """What a program with rights on the table may insert into the inbox."""

    share = 0.2
    batch = 100

    def __init__(
        self, world: World, worker: HandDrivenWorker, producer: psycopg.Connection[Any]
    ) -> None:
        self._world = world
        self._worker = worker
        self._producer = producer
        self._documents = list(chain(VALID.values(), INVALID.values()))

    def one(self, random: Random) -> bytes:
        """Damage an envelope."""
        document = json_damaged(random.choice(self._documents), random)
        return json.dumps(document).encode()

    def feed(self, inputs: Sequence[bytes]) -> Iterable[str]:
        """Insert those that are JSON to Postgres, and drain."""
        inserted = 0
        for raw in inputs:
            try:
                self._producer.execute(
                    "INSERT INTO inbox (envelope) VALUES (%s::text::jsonb)",
                    [raw.decode("utf-8", "replace")],
                )
                inserted += 1
            except (psycopg.DataError, psycopg.OperationalError):
                yield "refused"
        before = self._count()
        while self._worker.service.background.drain_inbox():
            pass
        due = "SELECT count(*) FROM inbox WHERE coalesce(not_before, '-infinity') <= service_now()"
        left = self._world.database.value(due)
        assert left == 0, f"{left} rows stay in the inbox"
        after = self._count()
        letters = after["letter"] - before["letter"]
        fresh = after["fresh"] - before["fresh"]
        yield from ["letter"] * letters + ["accepted"] * fresh
        yield from ["repeated"] * (inserted - letters - fresh)

    def _count(self) -> dict[str, int]:
        rows = self._world.database.rows(
            "SELECT (SELECT count(*) FROM messages) AS fresh,"
            " (SELECT count(*) FROM dead_letters) AS letter"
        )
        return dict(rows[0])

    def audit(self, outcomes: Counter[str]) -> None:
        """Each has a row with a reason."""
        assert outcomes["letter"] > 0
        assert outcomes["accepted"] > 0
        check_rows(self._world, outcomes)


def check_rows(world: World, outcomes: Counter[str]) -> None:
    """Check that there are as many rows as outcomes, each with a reason."""
    reasons = world.database.rows("SELECT reason, count(*) AS n FROM dead_letters GROUP BY reason")
    assert {row["reason"] for row in reasons} <= REASONS
    assert sum(row["n"] for row in reasons) == outcomes["letter"]
    defects = {row["reason"]: row["n"] for row in reasons if row["reason"] == "not_understood"}
    assert not defects, "the gate or the inbox has a defect"
    accepted = world.database.value("SELECT count(*) FROM messages")
    assert accepted == outcomes["accepted"]
    longest = world.database.value("SELECT coalesce(max(octet_length(raw)), 0) FROM dead_letters")
    assert longest <= 2 * 1024 * 1024


class ControlMessages:
    """What anyone may publish on the exchange of remote control."""

    share = 0.2
    batch = 1
    COMMANDS = (
        *("ping", "stats", "conf", "active", "registered", "query_task", "enable_events"),
        *("revoke", "terminate", "shutdown", "rate_limit", "time_limit", "add_consumer"),
        *("pool_grow", "pool_restart", "autoscale", "election", "hello", "memdump", "objgraph"),
    )
    OBEYED = frozenset(COMMANDS[:7])

    def __init__(self) -> None:
        self._dropped = count(metrics.CONTROL_DROPPED)

    def one(self, random: Random) -> bytes:
        """Damage a command, its wrapper, or both."""
        command: dict[str, Any] = {
            "method": random.choice(self.COMMANDS),
            "arguments": random.choice(({}, {"ids": ["x"]}, {"safe": True}, {"task_id": "x"})),
            "destination": random.choice((None, ["worker@here"])),
            "pattern": None,
            "matcher": None,
            "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "x"},
            "ticket": "t-1",
        }
        body = json.dumps(
            json_damaged(command, random) if random.random() < 0.7 else command
        ).encode()
        entry = {
            "body": base64.b64encode(body).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"clock": 1, "expires": 0},
            "properties": {
                "delivery_tag": "d",
                "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
                "body_encoding": "base64",
            },
        }
        raw = json.dumps(entry).encode()
        return damaged(raw, random, ENTRIES) if random.random() < 0.5 else raw

    def feed(self, inputs: Sequence[bytes]) -> Iterable[str]:
        """Read it as a worker does."""
        for raw in inputs:
            message = broadcast(raw, queue="worker@here.celery.pidbox", delivery_info={})
            if message is None:
                yield "dropped"
                continue
            order = GatedMessage(message, channel=None).payload
            assert set(order) == {"method", "arguments", "destination", "reply_to", "ticket"}
            assert order["method"] in self.OBEYED, order["method"]
            assert order["method"] == "query_task" or not set(order["arguments"]) & {"ids"}
            yield "obeyed"

    def audit(self, outcomes: Counter[str]) -> None:
        """Each that was dropped is counted."""
        assert outcomes["obeyed"] > 0
        assert count(metrics.CONTROL_DROPPED) - self._dropped == outcomes["dropped"]


def count(metric: Metric) -> float:
    """Return the sum of a counter over its labels."""
    (family,) = metric.collect()
    return sum(one.value for one in family.samples if one.name.endswith("_total"))


@contextmanager
def queue_entries(world: World) -> Iterator[QueueEntries]:
    """A worker all of whose turn slots are taken: it only takes in."""
    worker = world.worker()
    with taken(worker.service.receive.slots):
        yield QueueEntries(world, worker)


@contextmanager
def sql_envelopes(world: World) -> Iterator[SqlEnvelopes]:
    """The same for the inbox."""
    worker = world.worker()
    url = world.database.url
    with taken(worker.service.receive.slots), psycopg.connect(url, autocommit=True) as producer:
        yield SqlEnvelopes(world, worker, producer)


@contextmanager
def control_messages(_world: World) -> Iterator[ControlMessages]:
    """In this process, as every worker reads them."""
    yield ControlMessages()
