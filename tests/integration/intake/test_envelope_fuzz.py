"""Whatever comes in ends as a message with an outcome, or as a dead letter with a reason."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.envelopes import INVALID, JSON, VALID, WIRE, envelopes
from tests.support.slots import taken
from tests.support.world import HandDrivenWorker, World
from worker.domain.messages import Accepted
from worker.domain.reasons import DeadLetterReason
from worker.queue.gate.entry import RejectedEntry
from worker.queue.gate.gate import DEAD_LETTER_TASK, EntryGate

WIDE = "".join(chr(0x10000 + 7919 * n % 0xFFFFD) for n in range(998))
"""Characters that Postgres cannot make smaller."""
BARE = VALID["bare"]


class Receive:
    def run(self, envelope: object) -> None: ...


GATE = EntryGate(
    tasks=lambda: {"messages.receive": Receive()}, accepts={"inbound": {"messages.receive"}}
)


@pytest.fixture
def worker(world: World) -> Iterator[HandDrivenWorker]:
    """A worker all of whose turn slots are taken: it only takes in."""
    made = world.worker()
    with taken(made.service.receive.slots):
        yield made


def entry(payload: object, **headers: object) -> bytes:
    body = base64.b64encode(json.dumps(payload).encode()).decode()
    made = json.loads(WIRE[0].read_bytes()) | {"body": body}
    made["headers"] |= headers
    return json.dumps(made).encode()


def take_in(worker: HandDrivenWorker, raw: bytes) -> Accepted | None:
    """What the gate and the two tasks do with an entry of the queue."""
    message = GATE.admit(raw, queue="inbound", priority=0)
    args, kwargs, _ = message.payload
    if message["headers"]["task"] == DEAD_LETTER_TASK:
        letter = RejectedEntry.from_args(args)
        worker.service.dead_letters.keep(
            reason=letter.reason, raw=letter.raw, detail=letter.detail, queue=letter.queue
        )
        return None
    (document,) = (*args, *kwargs.values())
    return worker.service.receive(document, raw=lambda: message.body, queue="inbound").accepted


def assert_kept(worker: HandDrivenWorker, world: World, raw: bytes) -> None:
    before = world.database.value("SELECT count(*) FROM dead_letters")
    accepted = take_in(worker, raw)
    letters = world.database.rows("SELECT reason, detail FROM dead_letters ORDER BY id")[before:]
    if accepted is None:
        (letter,) = letters
        assert letter["reason"] in set(DeadLetterReason)
        assert letter["detail"].isascii()
    else:
        assert letters == []
        found = "SELECT count(*) FROM messages WHERE id = %s"
        assert world.database.value(found, accepted.id) == 1


def assert_all_end(world: World) -> None:
    """Another worker, with free slots, answers every message that was accepted."""
    world.database.run("UPDATE channel_users SET due_at = service_now() WHERE due_at IS NOT NULL")
    world.worker().answer(rounds=50)
    open_ones = world.database.rows("SELECT envelope FROM messages WHERE outcome IS NULL")
    assert open_ones == []


DOCUMENTS = st.tuples(envelopes(), st.uuids()).map(
    lambda drawn: drawn[0] | ({"message_id": str(drawn[1])} if "message_id" in drawn[0] else {})
)
ENTRIES = st.one_of(
    DOCUMENTS.map(lambda one: entry([[], {"envelope": one}, {}])),
    DOCUMENTS.map(lambda one: entry([[one], {}, None])),
    JSON.map(lambda value: entry([[], {"envelope": value}, {}])),
    JSON.map(entry),
    JSON.map(lambda value: entry([[], {"envelope": BARE}, {}], id=value, eta=value)),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=40),
)


def test_every_input_ends_as_a_message_with_an_outcome_or_as_a_dead_letter(
    world: World, worker: HandDrivenWorker
) -> None:
    @settings(
        max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(ENTRIES)
    @example(entry([[], {"envelope": BARE | {"expires_at": "0001-01-01T00:00:00+14:00"}}, {}]))
    @example(entry([[], {"envelope": BARE | {"expires_at": "9998-12-31T23:59:59-23:59"}}, {}]))
    @example(entry([[], {"envelope": BARE | {"message_id": WIDE}}, {}]))
    @example(entry([[], {"envelope": BARE | {"message_id": WIDE[:512]}}, {}]))
    @example(entry([[], {"envelope": BARE | {"user": WIDE[:320], "thread": WIDE[:255]}}, {}]))
    @example(entry([[], {"envelope": BARE | {"user": WIDE[:256], "thread": WIDE[:255]}}, {}]))
    @example(entry([[], {"envelope": BARE | {"x": 10**4000, "y": [1e308, -0.0, 5e-324]}}, {}]))
    def check(raw: bytes) -> None:
        assert_kept(worker, world, raw)

    check()
    assert world.database.value("SELECT count(*) FROM messages") >= 3  # of the examples above
    assert_all_end(world)


def test_every_valid_fixture_is_answered(world: World, worker: HandDrivenWorker) -> None:
    for number, envelope in enumerate(VALID.values()):
        fields: dict[str, Any] = envelope | {"user": f"{envelope['user'][:300]}-{number}"}
        for name in ("agent", "reply_to"):  # the fixture names those that are not configured here
            fields.pop(name, None)
        accepted = take_in(worker, entry([[], {"envelope": fields}, {}]))
        if "not_before" in fields:
            assert worker.service.background.drain_inbox()
        else:
            assert accepted is not None
            assert accepted.fresh
    assert_all_end(world)


def test_every_invalid_fixture_is_kept_with_its_reason_another_version_too(
    world: World, worker: HandDrivenWorker
) -> None:
    raws = [entry([[], {"envelope": case["envelope"]}, {}]) for case in INVALID.values()]
    for raw in raws:
        assert take_in(worker, raw) is None
    rows = world.database.rows("SELECT reason, raw FROM dead_letters ORDER BY id")
    assert [row["reason"] for row in rows] == [case["reason"] for case in INVALID.values()]
    assert all(row["raw"] for row in rows)
    assert world.database.value("SELECT count(*) FROM messages") == 0
