"""Every check of the oracle fails where its invariant is broken: else it would prove nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.state_machine.stage import Stage
from tests.support.oracle import Delivered, Expectations, MessageKey, check
from worker.sandbox.simulator.record.events import ExecutionEnded, RequestReceived
from worker.sandbox.simulator.record.log import Entry
from worker.sandbox.simulator.record.values import Draft


@pytest.fixture
def played(stage: Stage) -> Stage:
    """Two people, two answered turns each, one of them delivered; nothing is wrong."""
    stage.reset(hands=1)
    (mike,) = stage.hands
    for person in (0, 1):
        for text in ("one", "two"):
            stage.clock.advance(0.001)
            stage.receive(mike, stage.envelope(person, text))
    while stage.broker.deliveries:
        stage.deliver(mike)
    assert stage.violations() == []
    assert len(stage.sink.taken) == 2
    return stage


def found(stage: Stage, log: tuple[Entry, ...] | None = None, **changes: object) -> set[str]:
    expected = Expectations(accepted=stage.watch.accepted, delivered=stage.sink.taken)
    expected = replace(expected, **changes)  # type: ignore[arg-type]
    violations = check(stage.database, log or stage.telnyx.log(), expected)
    return {violation.invariant for violation in violations}


@pytest.mark.parametrize(
    ("invariant", "statement"),
    [
        ("I1", "DELETE FROM deliveries WHERE true; DELETE FROM replies WHERE true"),
        ("I1", "UPDATE messages SET state = 'dead', outcome = 'refused'"),
        ("I1", "UPDATE messages SET state = 'human', outcome = 'human'"),
        ("I1", "UPDATE messages SET state = 'pending', outcome = NULL"),
        ("I1", "UPDATE messages SET state = 'in_turn', outcome = NULL"),
        ("I1", "UPDATE messages SET outcome = 'fallback'"),
        ("I2", "UPDATE messages SET state = 'pending', outcome = NULL, turn_id = NULL"),
        ("I2", "UPDATE turns SET state = 'open' WHERE id = (SELECT max(id) FROM turns)"),
        ("I2", "UPDATE calls SET state = 'intended' WHERE id = (SELECT max(id) FROM calls)"),
        ("I2", "UPDATE deliveries SET state = 'pending'"),
        ("I3", "UPDATE turns SET input_text = 'three'"),
        (
            "I3",
            "UPDATE messages SET order_at = order_at - interval '1 day' WHERE seq = 2",
        ),
        ("I3", "UPDATE turns SET landed = false WHERE id = (SELECT max(id) FROM turns)"),
        ("I3", "UPDATE conversations SET base_user_messages = 1"),
        ("I3", "UPDATE channel_users SET diverged_at = service_now()"),
        ("I4", "UPDATE replies SET text = 'something else'"),
        ("I4", "UPDATE replies SET text = (SELECT text FROM replies ORDER BY id LIMIT 1)"),
        ("I5", "UPDATE conversations SET telnyx_conversation_id = gen_random_uuid()"),
        ("I6", "UPDATE turns SET state = 'open'"),
        (
            "I7",
            "UPDATE deliveries SET id = DEFAULT WHERE id = (SELECT min(id) FROM deliveries)",
        ),
        ("I7", "UPDATE replies SET text = 'something else'"),
        ("I9", "UPDATE calls SET token = 1"),
        ("I9", "UPDATE channel_users SET lease_token = 0"),
        ("references", "UPDATE turns SET conversation_id = 0 WHERE id = 1"),
        ("references", "UPDATE calls SET conversation_id = 0 WHERE id = 1"),
        ("references", "UPDATE calls SET conversation_id = (SELECT max(id) FROM conversations)"),
        ("references", "UPDATE calls SET channel_user_id = 3 - channel_user_id"),
        ("references", "UPDATE messages SET turn_id = (SELECT max(id) FROM turns)"),
        ("references", "UPDATE deliveries SET channel_user_id = 3 - channel_user_id"),
        ("references", "UPDATE deliveries SET channel_user_id = 0"),
        ("references", "UPDATE deliveries SET reply_id = 0 WHERE id = 1"),
        ("references", "UPDATE replies SET turn_id = 0 WHERE id = 1"),
        ("references", "UPDATE messages SET channel_user_id = 0 WHERE id = 1"),
        ("references", "UPDATE turns SET channel_user_id = 0 WHERE id = 1"),
    ],
)
def test_a_planted_violation_in_the_tables_is_found(
    played: Stage, invariant: str, statement: str
) -> None:
    for each in statement.split("; "):
        played.database.run(each)
    assert invariant in found(played)


def test_an_acknowledged_message_without_a_row_is_found(played: Stage) -> None:
    lost = MessageKey(channel="sms", address="+13125550001", message_id="never seen")
    assert found(played, accepted=[*played.watch.accepted, lost]) == {"I1"}


def test_an_input_that_reached_telnyx_twice_is_found(played: Stage) -> None:
    again = Draft(role="user", text="two", origin="input")
    played.telnyx.state.store.add(None, str(played.conversation(0)), [again])
    assert found(played) == {"I3"}


def test_a_foreign_message_is_no_violation_and_excuses_a_stopped_user(played: Stage) -> None:
    played.telnyx.write_foreign(str(played.conversation(0)), "who is this?")
    assert found(played) == set()
    played.database.run(
        "UPDATE channel_users SET diverged_at = service_now() WHERE id = %s", played.user_id(0)
    )
    assert found(played) == set()


def test_requests_that_overlap_are_found(played: Stage) -> None:
    log = played.telnyx.log()
    responses = [
        entry.seq
        for entry in log
        if isinstance(entry.event, RequestReceived) and entry.event.endpoint == "responses"
    ]
    still_at_work = tuple(
        entry
        for entry in log
        if not (isinstance(entry.event, ExecutionEnded) and entry.event.request == responses[0])
    )
    assert found(played, log=still_at_work) == {"I6"}


def test_a_conversation_that_no_mapping_names_is_found(played: Stage) -> None:
    created = played.telnyx.state.store.create(1, name="", metadata={})
    said = Draft(role="user", text="hello", origin="input")
    played.telnyx.state.store.add(None, created.id, [said])
    assert found(played) == {"I5"}


def test_a_conversation_written_to_after_its_successor_is_found(played: Stage) -> None:
    old = played.conversation(0)
    played.database.run("UPDATE conversations SET closed_at = service_now()")
    played.receive(played.hands[0], played.envelope(0, "three"))
    log = played.telnyx.log()
    to_the_old = next(
        entry
        for entry in log
        if isinstance(entry.event, RequestReceived)
        and entry.event.endpoint == "responses"
        and entry.event.conversation_id == str(old)
    )
    assert "I5" in found(played, log=(*log, to_the_old))


@pytest.mark.parametrize(
    ("invariant", "spoil"),
    [
        ("I7", lambda taken: taken[::-1]),
        ("I7", lambda taken: [replace(taken[0], text="other"), taken[1]]),
        ("I8", lambda taken: [*taken, replace(taken[1], key="another")]),
        ("I8", lambda taken: taken[:1]),
    ],
)
def test_a_planted_violation_in_what_the_provider_took_is_found(
    played: Stage, invariant: str, spoil: Callable[[list[Delivered]], list[Delivered]]
) -> None:
    assert found(played, delivered=spoil(list(played.sink.taken))) == {invariant}
