"""Deliveries through the real handlers: order, keys, doubt, age."""

import pytest
from prometheus_client import generate_latest

from tests.support.world import World
from worker.config.agents_file import DEFAULT_MODEL
from worker.domain.deliveries import (
    DeliveryOutcome,
    NotDelivered,
    OutgoingReply,
    Rejected,
    Sent,
    Unclear,
)
from worker.observability.metrics import REGISTRY

CONFIG = '[channels.sms.delivery]\ntask = "replies.take"\nqueue = "crm"\n'


class Sink:
    """A way out that remembers, and answers as the test has told it."""

    def __init__(self, *outcomes: DeliveryOutcome | Exception, takes_key: bool = True) -> None:
        self.takes_key = takes_key
        self.outcomes = list(outcomes)
        self.seen: list[OutgoingReply] = []

    def deliver(self, reply: OutgoingReply) -> DeliveryOutcome:
        self.seen.append(reply)
        outcome = self.outcomes.pop(0) if self.outcomes else Sent()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def states(world: World) -> list[str]:
    rows = world.database.rows("SELECT state FROM deliveries ORDER BY id")
    return [row["state"] for row in rows]


def test_a_reply_goes_out_as_the_producers_task_with_the_key_as_its_id(world: World) -> None:
    mike = world.worker(CONFIG)
    mike.receive(world.envelope("hello", metadata={"ticket": "7"}))
    mike.deliver()

    ((task, queue, task_id, kwargs),) = mike.broker.tasks
    assert (task, queue) == ("replies.take", "crm")
    assert task_id == kwargs["reply"]["idempotency_key"]
    assert kwargs["reply"]["metadata"] == {"ticket": "7"}
    assert kwargs["reply"]["message_ids"] == ["m-2"]
    assert states(world) == ["sent"]


def test_without_a_way_out_the_reply_row_is_the_delivery(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    assert states(world) == ["sent"]
    assert mike.broker.deliveries == []


def test_a_later_reply_waits_for_the_one_before_it(world: World) -> None:
    sink = Sink(NotDelivered(reason="busy"))
    mike = world.worker(CONFIG, channels={"sms": sink})
    mike.receive(world.envelope("one"))
    mike.deliver()
    mike.receive(world.envelope("two"))
    mike.deliver()
    assert states(world) == ["pending", "pending"]

    world.clock.advance(6)
    mike.service.deliver(sink.seen[0].user_id)
    assert states(world) == ["sent", "sent"]
    first, again, second = sink.seen
    assert first.idempotency_key == again.idempotency_key != second.idempotency_key
    assert second.message_ids != first.message_ids


@pytest.mark.parametrize("outcome", [Unclear(reason="timeout"), RuntimeError("a bug")])
def test_in_doubt_a_channel_with_keys_gets_it_again_under_the_same_key(
    world: World, outcome: DeliveryOutcome | Exception
) -> None:
    sink = Sink(outcome)
    mike = world.worker(CONFIG, channels={"sms": sink})
    mike.receive(world.envelope("one"))
    mike.deliver()
    assert states(world) == ["sending"]
    world.clock.advance(40)
    mike.service.deliver(sink.seen[0].user_id)
    assert states(world) == ["sent"]
    assert len({reply.idempotency_key for reply in sink.seen}) == 1


def test_a_doubt_outlives_a_failure_and_ends_the_delivery_once_the_key_is_forgotten(
    world: World,
) -> None:
    sink = Sink(Unclear(reason="timeout"), NotDelivered(reason="connect"))
    mike = world.worker(
        f"[channels.sms]\ndelivery_max_age_s = 400000\n{CONFIG}", channels={"sms": sink}
    )
    mike.receive(world.envelope("one"))
    mike.deliver()
    world.clock.advance(40)
    mike.service.deliver(sink.seen[0].user_id)
    # The service is stopped for three days.
    world.clock.advance(3 * 86_400)
    mike.service.deliver(sink.seen[0].user_id)
    assert (states(world), len(sink.seen)) == (["unknown"], 2)


def test_in_doubt_a_channel_without_keys_gets_it_at_most_once_and_does_not_block(
    world: World,
) -> None:
    sink = Sink(Unclear(reason="timeout"), takes_key=False)
    mike = world.worker(CONFIG, channels={"sms": sink})
    mike.receive(world.envelope("one"))
    mike.receive(world.envelope("two"))
    mike.deliver()
    assert states(world) == ["unknown", "sent"]
    assert len(sink.seen) == 2


@pytest.mark.parametrize(("takes_key", "ends"), [(True, "sent"), (False, "unknown")])
def test_an_attempt_whose_worker_died_is_taken_up_by_its_kind(
    world: World, takes_key: bool, ends: str
) -> None:
    sink = Sink(takes_key=takes_key)
    mike = world.worker(CONFIG, channels={"sms": sink})
    mike.receive(world.envelope("one"))
    (user,) = mike.broker.deliveries
    deliver = mike.service.deliver
    assert deliver.store.claim(user, deliver.routing()) is not None  # and then the process dies
    assert mike.service.deliver(user) == []
    world.clock.advance(40)
    mike.service.deliver(user)
    assert states(world) == [ends]
    assert len(sink.seen) == (1 if takes_key else 0)


def test_a_rejected_reply_is_a_dead_letter_and_a_replay_hands_it_over_again(world: World) -> None:
    sink = Sink(Rejected(reason="no such number"))
    mike = world.worker(CONFIG, channels={"sms": sink})
    mike.receive(world.envelope("one"))
    mike.deliver()
    assert states(world) == ["failed"]
    (letter,) = mike.operator.dead_letters.find()
    assert letter.reason == "delivery_rejected"

    mike.operator.replay(letter.id)
    mike.service.deliver(sink.seen[0].user_id)
    assert states(world) == ["sent"]


def test_the_head_of_the_line_gives_up_after_its_age(world: World) -> None:
    sink = Sink(*[NotDelivered(reason="down")] * 3)
    mike = world.worker(
        "[channels.sms]\ndelivery_max_age_s = 30\n" + CONFIG, channels={"sms": sink}
    )
    mike.receive(world.envelope("one"))
    mike.deliver()
    world.clock.advance(31)
    mike.receive(world.envelope("two"))
    mike.deliver()
    assert states(world)[0] == "expired"


def test_a_lost_wake_of_a_delivery_is_found_by_the_sweeper(world: World) -> None:
    sink = Sink()
    mike = world.worker(CONFIG, channels={"sms": sink})
    mike.receive(world.envelope("one"))
    mike.broker.deliveries.clear()
    world.clock.advance(2)
    mike.service.background.sweep()
    mike.service.close()  # waits for what it started
    assert states(world) == ["sent"]


ROUTES = """
[channels.sms]
expired_text = "Too late."
debounce_s = 1
[channels.sms.delivery]
task = "replies.take"
queue = "crm"
[routes.desk.delivery]
task = "desk.take"
queue = "desk"
[routes.archive]
"""


def test_a_reply_takes_the_route_that_its_message_names(world: World) -> None:
    mike = world.worker(ROUTES)
    mike.accept_only(world.envelope("one", reply_to="desk"))
    mike.accept_only(world.envelope("two", reply_to="desk"))
    mike.accept_only(world.envelope("three"))
    mike.accept_only(world.envelope("four", reply_to="archive"))
    mike.accept_only(world.envelope("five", reply_to=None))
    world.clock.advance(2)
    mike.answer()
    mike.deliver()
    assert world.inputs() == ["one\ntwo", "three", "four", "five"]
    assert [task for task, *_ in mike.broker.tasks] == ["desk.take", *["replies.take"] * 2]
    assert {kwargs["reply"]["channel"] for *_, kwargs in mike.broker.tasks} == {"sms"}
    assert states(world) == ["sent"] * 4


def test_attempts_are_counted_by_names_of_the_configuration(world: World) -> None:
    labels = {"channel": "route:desk", "state": "sent"}

    def attempts() -> float:
        return REGISTRY.get_sample_value("worker_delivery_attempts_total", labels) or 0.0

    before, mike = attempts(), world.worker(ROUTES)
    mike.receive(world.envelope("one", channel="made-up", reply_to="desk"))
    mike.deliver()
    assert attempts() - before == 1
    assert "made-up" not in generate_latest(REGISTRY).decode()


def test_the_one_who_goes_on_with_a_turn_knows_its_route(world: World) -> None:
    world.simulator.set_model_available(DEFAULT_MODEL, False)
    mike = world.worker(ROUTES)
    mike.accept_only(world.envelope("one", reply_to="desk"))
    world.clock.advance(2)
    mike.answer()
    assert world.database.value("SELECT state FROM turns") == "open"
    world.simulator.set_model_available(DEFAULT_MODEL, True)
    world.clock.advance(900)
    world.worker(ROUTES).answer()
    assert world.database.value("SELECT channel FROM deliveries") == "route:desk"


def test_an_unknown_route_is_a_dead_letter_that_names_the_field(world: World) -> None:
    mike = world.worker(ROUTES)
    assert mike.receive(world.envelope("one", reply_to="SECRET")) is None
    (letter,) = world.database.rows("SELECT reason, detail FROM dead_letters")
    assert letter["reason"] == "unknown_route"
    assert letter["detail"].startswith("reply_to: ")
    assert "SECRET" not in letter["detail"]


def test_a_text_about_expired_messages_takes_the_route_of_the_first(world: World) -> None:
    mike = world.worker(ROUTES)
    mike.accept_only(world.envelope("one", reply_to="desk", expires_at="2020-01-01T00:00:00Z"))
    world.clock.advance(2)
    mike.answer()
    row = {"channel": "route:desk", "state": "pending", "text": "Too late."}
    assert world.database.rows(
        "SELECT channel, state, text FROM deliveries d JOIN replies r ON r.id = d.reply_id"
    ) == [row]
