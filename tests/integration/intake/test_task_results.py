"""What a task returns, for Flower: what became of its message, in words of ours and row ids."""

from collections.abc import Mapping

from tests.support.world import HandDrivenWorker, World

AGENTS = """
[agents.default]
[channels.sms]
kind = "telephone"
max_pending = 1
[channels.phone]
kind = "telephone"
"""


def result(worker: HandDrivenWorker, envelope: Mapping[str, object]) -> str:
    return worker.service.receive(envelope, raw=lambda: b"[]", queue="inbound").result


def test_each_task_reports_the_outcome_of_its_message(world: World) -> None:
    mike = world.worker(AGENTS)
    first = world.envelope("hello")
    ids = "SELECT m.id AS message, turn_id AS turn FROM messages m ORDER BY id DESC LIMIT 1"

    # The first message of a person takes the long way, the second one the fast path.
    assert result(mike, first) == "answered message={message} turn={turn}".format(
        **world.database.rows(ids)[0]
    )
    again = result(mike, world.envelope("and"))
    assert again == "answered message={message} turn={turn}".format(**world.database.rows(ids)[0])
    assert result(mike, first) == "repeated message=1"
    assert result(mike, {**first, "text": "other"}) == "conflict message=1"
    stop = world.envelope("STOP", signals=["opt_out"], user="+13125550002")
    assert result(mike, stop).startswith("skipped opt_out message=")
    late = world.envelope("late", expires_at="2001-01-01T00:00:00Z")
    assert result(mike, late).startswith("expired message=")
    assert (
        result(mike, world.envelope("hi", user="5550001", channel="sms"))
        == "refused envelope_invalid user"
    )
    assert result(mike, {**first, "version": 2}) == "refused envelope_version version"
    assert result(mike, {**first, "agent": "nobody"}) == "refused unknown_agent agent"


def test_a_message_that_waits_or_is_not_taken_is_reported_as_such(world: World) -> None:
    mike, slow = world.worker(AGENTS), AGENTS.replace("max_pending = 1", "debounce_s = 5")
    world.simulator.inject("503", count=1)
    retried = result(mike, world.envelope("hello", channel="phone"))
    assert retried.startswith("waiting message=")
    lazy = world.worker(slow)
    assert result(lazy, world.envelope("hello")).startswith("waiting message=")
    assert result(mike, world.envelope("too much")).startswith("skipped overflow message=")


def test_the_other_tasks_report_their_turns_and_deliveries(world: World) -> None:
    mike = world.worker(AGENTS)
    mike.accept_only(world.envelope("hello"))
    user = world.database.value("SELECT id FROM channel_users")
    (settled,) = mike.service.answer(user)
    assert (settled.result, settled.turn) == ("answered", 1)
    world.simulator.inject("400", count=9)
    mike.accept_only(world.envelope("poison"))
    assert {one.result for one in mike.service.answer(user)} == {None}, "it waits"
    results: set[str | None] = set()
    for _ in range(9):
        world.clock.advance(20)
        mike.service.background.workers.beat()
        results |= {one.result for one in mike.service.answer(user)}
    assert results == {None, "dead refused"}
