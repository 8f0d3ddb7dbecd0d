"""Drafts: which replies wait, who decides about them, and what the model is told."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.support.blocking import are_waiting, in_a_thread
from tests.support.world import USER, HandDrivenWorker, World
from worker.domain.errors import NotFoundError
from worker.domain.ids import ChannelUserId, ReplyId
from worker.domain.people.drafts import NOT_SENT, Decision, HeldFor, sent_instead
from worker.domain.states import DeliveryState
from worker.handlers.operators.drafts import AlreadyDecidedError
from worker.handlers.operators.take_user import NotPossibleError
from worker.sandbox.simulator.behaviour.model import Script

AGENTS = """
[agents.default]
call_timeout_s = 5
partial_text = true
fallback_text = "Somebody will write to you."
[channels.sms]
approve = "{approve}"
draft_max_age_s = 7200
[channels.sms.delivery]
task = "unused"
queue = "unused"
[channels.web]
approve = "all"
[channels.loose]
approve = "all"
persist = false
"""


def working(world: World, approve: str = "all") -> HandDrivenWorker:
    return world.worker(AGENTS.format(approve=approve))


@pytest.fixture
def worker(world: World) -> HandDrivenWorker:
    return working(world)


def deliveries(world: World) -> list[dict[str, Any]]:
    return world.database.rows(
        "SELECT d.state, d.held_for, d.due_at, d.finished_at, r.text, r.source FROM deliveries d"
        " JOIN replies r ON r.id = d.reply_id ORDER BY d.id"
    )


def states(world: World) -> list[str]:
    return [one["state"] for one in deliveries(world)]


def waiting(worker: HandDrivenWorker) -> ReplyId:
    """The id of the only draft that waits."""
    (one,) = worker.operator.drafts.waiting()
    return one.id


def note(world: World) -> str | None:
    found = world.database.value("SELECT note FROM channel_users")
    assert found is None or isinstance(found, str)
    return found


def deliver(world: World, worker: HandDrivenWorker) -> list[str]:
    """Deliver what is due; return all texts that have reached the channel."""
    for row in world.database.rows("SELECT DISTINCT channel_user_id AS id FROM deliveries"):
        worker.service.deliver(ChannelUserId(row["id"]))
    return [task[3]["reply"]["text"] for task in worker.broker.tasks]


def test_a_draft_waits_and_goes_out_once_it_is_approved(
    world: World, worker: HandDrivenWorker
) -> None:
    worker.receive(world.envelope("hello"))
    assert deliver(world, worker) == []
    (held,) = deliveries(world)
    assert (held["state"], held["held_for"], held["finished_at"]) == ("held", "all", None)
    assert note(world) == NOT_SENT

    done = worker.operator.drafts.approve(waiting(worker), by="ada")
    assert (done.decision, done.state) == (Decision.APPROVED, DeliveryState.PENDING)
    assert note(world) is None
    assert deliver(world, worker) == [held["text"]]
    assert states(world) == ["sent"]
    assert worker.operator.drafts.waiting() == ()


def test_a_draft_of_a_channel_without_delivery_is_kept_from_producers_until_it_is_approved(
    world: World, worker: HandDrivenWorker
) -> None:
    worker.receive(world.envelope("hello", user="ann"))
    read = "SELECT text, delivery, outcome FROM message_outcomes"
    assert world.database.rows(read) == [{"text": None, "delivery": "held", "outcome": "answered"}]
    assert worker.operator.drafts.approve(waiting(worker), by="ada").state is DeliveryState.SENT
    (row,) = world.database.rows(read)
    assert (row["text"], row["delivery"]) == (world.replies()[0]["text"], "sent")


def test_a_rejected_reply_is_not_sent_and_the_model_is_told(
    world: World, worker: HandDrivenWorker
) -> None:
    worker.receive(world.envelope("hello"))
    worker.operator.drafts.reject(waiting(worker), by="ada")
    assert states(world) == ["rejected"]
    worker.receive(world.envelope("are you there?"))
    assert deliver(world, worker) == []
    assert world.inputs() == ["hello", f"{NOT_SENT}\nare you there?"]


def test_an_edit_goes_out_and_the_model_reads_it(world: World, worker: HandDrivenWorker) -> None:
    worker.receive(world.envelope("hello"))
    draft = world.replies()[0]["text"]
    worker.operator.drafts.edit(waiting(worker), "Good day.", by="ada")
    assert deliver(world, worker) == ["Good day."]
    (reply,) = world.database.rows("SELECT text, source, draft, changed FROM replies")
    assert (reply["text"], reply["source"], reply["draft"]) == ("Good day.", "edited", draft)
    assert reply["changed"] == 1
    worker.receive(world.envelope("thanks"))
    assert world.inputs() == ["hello", f"{sent_instead('Good day.')}\nthanks"]


def test_newer_messages_supersede_a_draft_and_the_next_reply_covers_them(
    world: World, worker: HandDrivenWorker
) -> None:
    worker.receive(world.envelope("hello"))
    first = waiting(worker)
    worker.accept_only(world.envelope("and this"))
    with pytest.raises(NotPossibleError, match="newer messages have come"):
        worker.operator.drafts.approve(first, by="ada")
    worker.answer()
    assert states(world) == ["superseded", "held"]
    with pytest.raises(NotPossibleError, match="the next reply covers them"):
        worker.operator.drafts.approve(first, by="ada")
    assert world.inputs() == ["hello", f"{NOT_SENT}\nand this"]
    assert waiting(worker) > first


def test_messages_that_a_person_answers_supersede_a_draft_as_well(
    world: World, worker: HandDrivenWorker
) -> None:
    worker.receive(world.envelope("hello"))
    world.database.run("UPDATE channel_users SET paused_at = service_now()")
    worker.receive(world.envelope("is anybody there?"))
    assert states(world) == ["superseded"]


def test_an_approved_reply_goes_out_although_a_person_has_taken_over(
    world: World, worker: HandDrivenWorker
) -> None:
    worker.receive(world.envelope("hello"))
    world.database.run("UPDATE channel_users SET paused_at = service_now()")
    worker.operator.drafts.approve(waiting(worker), by="ada")
    assert len(deliver(world, worker)) == 1


def test_a_message_of_our_staff_takes_the_place_of_a_draft(
    world: World, worker: HandDrivenWorker
) -> None:
    worker.receive(world.envelope("hello"))
    user = ChannelUserId(world.database.value("SELECT id FROM channel_users"))
    worker.operator.say(user, "Jo here.", key=uuid4())
    worker.answer()
    assert deliver(world, worker) == ["Jo here."]
    assert states(world) == ["superseded", "sent"]
    worker.receive(world.envelope("hi Jo"))
    assert world.inputs()[-1] == f"{sent_instead('Jo here.')}\nhi Jo"


def test_a_stateless_channel_has_no_thread_to_tell_of(
    world: World, worker: HandDrivenWorker
) -> None:
    worker.receive(world.envelope("hello", user="ann", channel="loose"))
    worker.receive(world.envelope("again", user="ann", channel="loose"))
    assert states(world) == ["superseded", "held"]
    texts = world.database.rows("SELECT input_text FROM turns ORDER BY id")
    assert [one["input_text"] for one in texts] == ["hello", "again"]


def test_only_the_first_replies_to_a_new_user_wait(world: World) -> None:
    worker = working(world, "new_users")
    worker.receive(world.envelope("hello"))
    worker.operator.drafts.reject(waiting(worker), by="ada")
    worker.receive(world.envelope("hello?"))
    assert deliveries(world)[-1]["held_for"] == HeldFor.NEW_USER
    worker.operator.drafts.approve(waiting(worker), by="ada")
    worker.receive(world.envelope("thanks"))
    deliver(world, worker)
    assert states(world) == ["rejected", "sent", "sent"]


def test_the_model_asks_for_a_review(world: World) -> None:
    worker = working(world, "low_confidence")
    ask = (("ask_for_review", '{"reason": "I do not know the price."}'),)
    world.simulator.script(Script(text="how much", calls=ask))
    worker.receive(world.envelope("how much is it?"))
    worker.receive(world.envelope("hello", user="+13125550002"))
    deliver(world, worker)
    assert [(one["state"], one["held_for"]) for one in deliveries(world)] == [
        ("held", "asked"),
        ("sent", None),
    ]
    assert worker.operator.drafts.show(waiting(worker)).reason == "I do not know the price."


def test_no_agent_can_ask_that_is_not_offered_it(world: World) -> None:
    worker = working(world, "none")
    world.simulator.script(Script(text="hello", calls=(("ask_for_review", "{}"),)))
    worker.receive(world.envelope("hello"))
    assert world.database.value("SELECT state FROM tool_calls") == "failed"
    assert states(world) == ["pending"]


def test_an_answer_that_was_cut_off_waits(world: World) -> None:
    worker = working(world, "low_confidence")
    world.simulator.inject("incomplete")
    worker.receive(world.envelope("hello"))
    assert [one["held_for"] for one in deliveries(world)] == [HeldFor.INCOMPLETE]


def test_the_fallback_text_never_waits(world: World, worker: HandDrivenWorker) -> None:
    world.simulator.inject("failed")
    worker.receive(world.envelope("hello"))
    (one,) = deliveries(world)
    assert (one["source"], one["state"]) == ("fallback", "pending")
    assert note(world) is None


def test_a_draft_that_nobody_decides_about_expires(world: World, worker: HandDrivenWorker) -> None:
    worker.receive(world.envelope("hello"))
    draft = waiting(worker)
    world.clock.advance(7199)
    worker.service.background.sweep()
    assert states(world) == ["held"]
    world.clock.advance(2)
    worker.service.background.sweep()
    assert states(world) == ["expired"]
    with pytest.raises(NotPossibleError, match="nobody decided in time"):
        worker.operator.drafts.approve(draft, by="ada")


def test_the_age_of_an_approved_reply_counts_from_its_approval(
    world: World, worker: HandDrivenWorker
) -> None:
    worker.receive(world.envelope("hello"))
    world.clock.advance(7000)
    worker.operator.drafts.approve(waiting(worker), by="ada")
    assert len(deliver(world, worker)) == 1


def test_who_comes_second_is_told_who_was_first(world: World, worker: HandDrivenWorker) -> None:
    worker.receive(world.envelope("hello"))
    draft = waiting(worker)
    worker.operator.drafts.edit(draft, "Good day.", by="ada")
    with pytest.raises(AlreadyDecidedError) as refused:
        worker.operator.drafts.reject(draft, by="bob")
    assert (refused.value.decision, refused.value.by) == (Decision.EDITED, "ada")
    assert "ada" not in str(refused.value)
    assert deliver(world, worker) == ["Good day."]


def test_of_two_who_decide_at_once_one_wins(world: World, worker: HandDrivenWorker) -> None:
    worker.receive(world.envelope("hello"))
    drafts, draft = worker.operator.drafts, waiting(worker)
    with psycopg.connect(world.database.url) as somebody:
        somebody.execute("SELECT FROM channel_users FOR UPDATE")
        both = [
            in_a_thread(lambda by=by: drafts.edit(draft, f"This is {by}.", by=by))  # type: ignore[misc]
            for by in ("ada", "bob")
        ]
        assert are_waiting(world, 2)
    (told,) = [one for one in (one.exception(10) for one in both) if one is not None]
    assert isinstance(told, AlreadyDecidedError)
    assert deliver(world, worker) == [f"This is {told.by}."]


def test_an_approval_waits_for_the_message_that_is_being_accepted(
    world: World, worker: HandDrivenWorker
) -> None:
    worker.receive(world.envelope("hello"))
    drafts, draft = worker.operator.drafts, waiting(worker)
    with psycopg.connect(world.database.url) as accepting:
        accepting.execute("UPDATE channel_users SET next_seq = next_seq + 1")
        accepting.execute(
            "INSERT INTO messages (channel_user_id, message_id, seq, order_at, agent, envelope)"
            " SELECT channel_user_id, 'newer', seq + 1, order_at, agent, envelope FROM messages"
        )
        approval = in_a_thread(lambda: drafts.approve(draft, by="ada"))
        assert are_waiting(world, 1)
    with pytest.raises(NotPossibleError, match="newer messages"):
        approval.result(10)
    assert states(world) == ["held"]


def test_a_person_who_has_opted_out_gets_no_draft(world: World, worker: HandDrivenWorker) -> None:
    worker.receive(world.envelope("hello"))
    draft = waiting(worker)
    worker.receive(world.envelope("STOP", signal="opt_out"))
    assert states(world) == ["opted_out", "pending"], "the second confirms the STOP"
    with pytest.raises(NotPossibleError, match="opted out"):
        worker.operator.drafts.approve(draft, by="ada")


def test_what_is_no_draft_cannot_be_approved(world: World) -> None:
    worker = working(world, "none")
    worker.receive(world.envelope("hello"))
    reply = ReplyId(world.database.value("SELECT id FROM replies"))
    with pytest.raises(NotFoundError):
        worker.operator.drafts.approve(reply, by="ada")
    with pytest.raises(NotFoundError):
        worker.operator.drafts.show(ReplyId(4711))


def test_a_draft_is_shown_with_the_messages_that_it_answers(
    world: World, worker: HandDrivenWorker
) -> None:
    worker.accept_only(world.envelope("one"))
    worker.accept_only(world.envelope("two"))
    worker.answer()
    shown = worker.operator.drafts.show(waiting(worker))
    assert [one.text for one in shown.messages] == ["one", "two"]
    assert (shown.text, shown.draft, shown.newer) == (world.replies()[0]["text"], None, 0)
    assert shown.expires_at is not None
    worker.accept_only(world.envelope("three"))
    assert worker.operator.drafts.show(shown.id).newer == 1
    assert USER not in repr(worker.operator.drafts.waiting())
