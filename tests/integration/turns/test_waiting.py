"""Bursts, supersede, expiry, overflow, pause: turn by turn."""

from uuid import uuid4

import pytest

from tests.support.world import World
from worker.domain.ids import ChannelUserId


def outcomes(world: World) -> list[str | None]:
    return [row["outcome"] for row in world.messages()]


def the_user(world: World) -> ChannelUserId:
    return ChannelUserId(world.database.value("SELECT id FROM channel_users"))


def test_a_burst_waits_for_its_last_message_but_not_for_ever(world: World) -> None:
    mike = world.worker("[channels.sms]\ndebounce_s = 4\nmax_wait_s = 10\n")
    for number in range(3):
        mike.accept_only(world.envelope(f"a{number}"))
        world.clock.advance(3.5)
        mike.answer()
    assert world.inputs() == ["a0\na1\na2"], "ten seconds after the first the turn opens"

    mike.accept_only(world.envelope("b"))
    world.clock.advance(3)
    mike.answer()
    assert world.inputs() == ["a0\na1\na2"]
    world.clock.advance(1.1)
    mike.answer()
    assert world.inputs() == ["a0\na1\na2", "b"]


def test_a_message_that_comes_while_a_call_runs_never_lowers_the_due_time(world: World) -> None:
    world.simulator.inject("dropped")
    mike = world.worker()
    mike.receive(world.envelope("one"))
    due = world.database.value("SELECT due_at FROM channel_users")
    mike.accept_only(world.envelope("two"))
    assert world.database.value("SELECT due_at FROM channel_users") == due


SUPERSEDING = (
    "[channels.sms]\nsupersede = true\nmax_wait_s = 60\n"
    '[channels.sms.delivery]\ntask = "t"\nqueue = "q"\n'
)


def answer_while_this_comes(world: World, **fields: object) -> list[str]:
    """Have one message answered, and another come meanwhile; give how the deliveries ended."""
    mike, anna = world.worker(SUPERSEDING), world.worker(SUPERSEDING)
    settle = mike.service.answer.turns.settle

    def meanwhile(*args: object) -> object:
        anna.accept_only(world.envelope("and one more thing", **fields))
        return settle(*args)  # type: ignore[arg-type]

    object.__setattr__(mike.service.answer.settle.turns, "settle", meanwhile)
    mike.accept_only(world.envelope("hello"))
    mike.sweep()
    object.__setattr__(mike.service.answer.settle.turns, "settle", settle)
    mike.answer()
    rows = world.database.rows("SELECT state FROM deliveries ORDER BY id")
    return [row["state"] for row in rows]


def test_a_superseded_reply_is_kept_and_not_delivered(world: World) -> None:
    states = answer_while_this_comes(world)
    assert (states[0], states[-1]) == ("superseded", "sent")
    assert set(outcomes(world)) == {"answered"}


def test_no_reply_is_superseded_by_what_is_never_answered(world: World) -> None:
    assert answer_while_this_comes(world, signals=["auto_reply"]) == ["sent"]
    assert sorted(map(str, outcomes(world))) == ["answered", "auto_reply"]


def test_one_text_is_said_for_all_that_is_too_old(world: World) -> None:
    mike = world.worker('[channels.sms]\nexpired_text = "Sorry, we were away."\n')
    for word in ("gone", "long gone"):
        mike.accept_only(world.envelope(word, expires_at="2020-01-01T00:00:00Z"))
    mike.accept_only(world.envelope("hello"))
    mike.answer()

    assert outcomes(world) == ["expired", "expired", "answered"]
    assert [(one["source"], one["text"][:19]) for one in world.replies()] == [
        ("fallback", "Sorry, we were away"),
        ("call", "Thanks for writing!"),
    ]
    assert world.inputs() == ["hello"]
    mike.accept_only(world.envelope("too late", expires_at="2020-01-01T00:00:00Z"))
    mike.answer()
    assert [one["source"] for one in world.replies()] == ["fallback", "call", "fallback"]


def test_what_is_too_old_when_its_turn_would_open_expires(world: World) -> None:
    mike = world.worker("[channels.sms]\nmax_age_s = 3600\n")
    mike.accept_only(world.envelope("old", sent_at="2020-01-01T00:00:00Z"))
    mike.accept_only(world.envelope("gone", expires_at="2020-01-01T00:00:00Z"))
    mike.accept_only(world.envelope("new"))
    world.clock.advance(1)
    mike.answer()
    assert outcomes(world) == ["expired", "expired", "answered"]
    assert world.inputs() == ["new"]

    mike.accept_only(world.envelope("old again", sent_at="2020-01-01T00:00:00Z"))
    world.clock.advance(1)
    mike.answer()
    assert outcomes(world)[-1] == "expired"
    assert world.database.value("SELECT due_at FROM channel_users") is None


def test_more_than_max_pending_overflow(world: World) -> None:
    mike = world.worker("[channels.sms]\nmax_pending = 3\n")
    for number in range(5):
        mike.accept_only(world.envelope(str(number)))
    mike.answer()
    assert outcomes(world) == ["answered"] * 3 + ["overflow"] * 2
    assert world.inputs() == ["0\n1\n2"]


@pytest.mark.parametrize("signal", ["opt_out", "auto_reply", "bounce", "bulk", "help"])
def test_a_message_with_such_a_signal_is_not_answered(world: World, signal: str) -> None:
    world.worker().receive(world.envelope("STOP", signals=[signal, "other"]))
    assert outcomes(world) == [signal]
    assert world.inputs() == []


def test_what_is_written_to_a_person_ends_as_human_and_stands_in_the_thread(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    mike.operator.set_paused(the_user(world), paused=True)
    (conversation,) = world.simulator.conversations()
    assert conversation.metadata["ai_disabled"] == "true"
    mike.receive(world.envelope("are you a person?"))
    mike.answer()
    mike.operator.set_paused(the_user(world), paused=False)
    mike.answer()
    mike.receive(world.envelope("thanks"))

    assert outcomes(world) == ["answered", "human", "answered"]
    assert world.inputs() == ["hello", "are you a person?", "thanks"]
    assert len(world.replies()) == 2
    (conversation,) = world.simulator.conversations()
    assert "ai_disabled" not in conversation.metadata


def test_a_reply_that_comes_after_the_pause_is_withheld(world: World) -> None:
    mike = world.worker()
    settle = mike.service.answer.settle.turns.settle

    def meanwhile(*args: object) -> bool:
        mike.operator.users.set_paused(the_user(world), paused=True)
        return settle(*args)  # type: ignore[arg-type]

    object.__setattr__(mike.service.answer.settle.turns, "settle", meanwhile)
    mike.receive(world.envelope("hello"))
    assert world.database.value("SELECT state FROM deliveries") == "withheld"


def test_a_turn_in_doubt_when_a_person_takes_over_is_recorded_once(world: World) -> None:
    world.simulator.inject("stored_then_dropped")
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    mike.operator.users.set_paused(the_user(world), paused=True)
    world.clock.advance(3)
    mike.answer()
    assert world.inputs() == ["hello"]
    assert world.database.value("SELECT state FROM deliveries") == "withheld"


def test_adding_to_the_log_is_repeated_under_the_same_key(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    mike.operator.users.set_paused(the_user(world), paused=True)
    world.simulator.inject("stored_then_dropped", match=None, endpoint="add_message")
    mike.receive(world.envelope("are you there?"))
    for _ in range(5):
        world.clock.advance(10)
        mike.service.background.workers.beat()
        mike.answer()
    assert outcomes(world) == ["answered", "human"]
    assert world.inputs() == ["hello", "are you there?"]


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("who", ["person", "staff"])
def test_a_key_that_telnyx_may_have_forgotten_adds_nothing_twice(
    world: World, who: str, stored: bool
) -> None:
    world.simulator.reconfigure(idempotency_ttl_s=0)
    mike = world.worker()
    mike.receive(world.envelope("ok"))
    user = the_user(world)
    mike.operator.users.set_paused(user, paused=True)
    for fault in ("stored_then_dropped" if stored else "dropped", "dropped"):
        world.simulator.inject(fault, match=None, endpoint="add_message")
    if who == "person":
        mike.receive(world.envelope("ok"))
    else:
        mike.operator.say(user, "ok", key=uuid4())
        mike.answer()
    assert world.database.value("SELECT count(*) FROM turns WHERE state = 'open'") == 1
    world.clock.advance(3 * 86_400)  # our service was away
    for _ in range(5):
        world.clock.advance(10)
        mike.service.background.workers.beat()
        mike.answer()
    (conversation,) = world.simulator.conversations()
    log = world.simulator.messages(conversation.id)
    said = [one.role for one in log if one.text == "ok"]
    assert said == ["user", "user" if who == "person" else "assistant"]
