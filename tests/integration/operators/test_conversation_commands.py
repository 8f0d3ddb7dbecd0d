"""The commands around conversations, on real Postgres and the simulator."""

from uuid import uuid4

import pytest

from tests.support.conversations import (
    QUIET_S,
    WHO,
    diverge,
    newest,
    refused,
    run,
    thread,
    told,
    wait,
)
from tests.support.world import NAMESPACE, USER, World
from worker.domain.errors import StaleLeaseError
from worker.domain.ids import ChannelUserId
from worker.domain.messages import ChannelAddress
from worker.handlers.turns.find_conversation import USER_KEY, user_tag

pytestmark = pytest.mark.simulator(reasoning=False)


# --- list and show -----------------------------------------------------------------------------


def test_conversations_are_listed_without_who_they_are_with(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    mike.receive(world.envelope("hello", channel="web", user="anna"))
    assert run(world, "conversations", "reset", "web:anna").returncode == 0

    (one,) = told(world, "conversations", "list")
    assert one["telnyx_id"] == world.simulator.conversations()[0].id
    assert (one["user"], one["channel"], one["agent"], one["turns"]) == (1, "sms", "default", 1)
    closed, _ = told(world, "conversations", "list", "--all")
    assert closed["why"] == "reset"
    assert told(world, "conversations", "list", "web:anna") == []
    assert len(told(world, "conversations", "list", "web:anna", "--all")) == 1
    assert told(world, "conversations", "list", "--channel", "web") == []
    assert told(world, "conversations", "list", "--agent", "nobody") == []
    shown = run(world, "conversations", "list").stdout
    assert USER not in shown


def test_a_thread_stands_beside_our_turns_and_texts_only_where_asked_for(world: World) -> None:
    diverge(world)
    shown = told(world, "conversations", "show", WHO)

    assert [(row["verdict"], row["role"], row["turn"], row["calls"]) for row in shown["rows"]] == [
        ("matches", "user", 1, ["done"]),
        ("answer", "assistant", None, []),
        ("only there", "user", None, []),
        ("only here", None, 2, ["unknown"]),
    ]
    assert shown["rows"][0]["chars"] == len("hello")
    for order in (("show", WHO), ("show", WHO, "--json"), ("list",), ("list", "--json")):
        said = run(world, "conversations", *order).stdout
        assert not any(one in said for one in ("hello", "stranger", "open?", USER))
    by_id = told(world, "conversations", "show", newest(world), "--texts")
    assert [row["text"] for row in by_id["rows"]][2:] == ["a stranger's words", "are you open?"]
    *_, asked, answer, foreign, ours = run(
        world, "conversations", "show", WHO, "--texts"
    ).stdout.splitlines()
    assert asked == "user>      hello"
    assert answer.startswith("assistant> ")
    assert foreign == "user>      a stranger's words  (only there)"
    assert ours == "user>      are you open?  (only here, turn 2 open)"


def test_what_a_stranger_wrote_in_between_makes_the_turns_after_it_differ(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("one"))
    world.simulator.append_foreign_message(newest(world), "a stranger's words")
    mike.receive(world.envelope("two"))

    rows = told(world, "conversations", "show", "1")["rows"]
    users = [(row["verdict"], row["turn"]) for row in rows if row["role"] == "user"]
    assert users == [("matches", 1), ("differs", 2), ("only there", None)]


def test_a_thread_that_is_gone_is_said(world: World) -> None:
    world.worker().receive(world.envelope("hello"))
    world.simulator.delete_conversation(newest(world))
    assert "reset it" in refused(world, "conversations", "show", WHO)
    assert "no channel user has" in refused(world, "conversations", "show", str(uuid4()))


# --- reset -------------------------------------------------------------------------------------


def test_after_a_reset_the_next_turn_opens_a_fresh_conversation(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    before = newest(world)

    done = told(world, "conversations", "reset", WHO)
    assert done == {"user": 1, "agent": "default", "closed": 1, "open_turn": None}
    mike.receive(world.envelope("hello again"))
    assert newest(world) != before
    assert thread(world, newest(world)) == ["hello again"]
    assert told(world, "conversations", "reset", WHO)["closed"] == 2
    assert told(world, "conversations", "reset", WHO)["closed"] is None


def test_a_diverged_user_goes_on_with_their_open_turn_after_a_reset(world: World) -> None:
    mike = diverge(world)
    assert told(world, "conversations", "reset", WHO)["open_turn"] == 2
    mike.answer()

    assert thread(world, newest(world)) == ["are you open?"]
    assert [row["outcome"] for row in world.messages()] == ["answered", "answered"]
    assert len(world.replies()) == 2
    assert world.database.value("SELECT diverged_at IS NULL FROM channel_users")
    events = world.database.rows("SELECT event FROM attempt_log ORDER BY id")
    assert [row["event"] for row in events] == ["diverged", "conversation.reset"]


@pytest.mark.parametrize("command", ["reset", "adopt", "say"])
def test_nothing_is_done_while_a_call_may_still_be_carried_out(world: World, command: str) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    order = {
        "reset": ("conversations", "reset", WHO),
        "adopt": ("conversations", "adopt", WHO, newest(world)),
        "say": ("say", WHO, "I am Jo", "--wait", "0"),
    }[command]
    world.simulator.inject("dropped")
    mike.receive(world.envelope("lost"))
    before = world.database.rows("SELECT * FROM channel_users")

    assert "Telnyx may still carry out a call of channel user 1: try again in 1" in refused(
        world, *order
    )
    assert world.database.rows("SELECT * FROM channel_users") == before
    assert world.database.value("SELECT count(*) FROM conversations") == 1
    wait(world, mike, QUIET_S + 1)
    assert run(world, *order).returncode == 0


@pytest.mark.parametrize("command", ["reset", "adopt", "say"])
def test_nothing_is_done_while_a_living_worker_is_at_work(world: World, command: str) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    order = {
        "reset": ("conversations", "reset", WHO),
        "adopt": ("conversations", "adopt", WHO, newest(world)),
        "say": ("say", WHO, "I am Jo", "--wait", "0"),
    }[command]
    world.database.run(
        "UPDATE channel_users SET lease_owner = (SELECT id FROM workers),"
        " lease_until = service_now() + interval '90 s'"
    )
    assert "a worker is at work on channel user 1: try again" in refused(world, *order)
    world.clock.advance(16)  # its heartbeat has stopped
    assert run(world, *order).returncode == 0


def test_who_held_the_lease_before_a_command_writes_nothing_any_more(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    before = world.database.value("SELECT lease_token FROM channel_users")
    told(world, "conversations", "reset", WHO)
    assert world.database.value("SELECT lease_token FROM channel_users") == before + 1

    store = mike.operator.adopt.store
    user = store.take(ChannelUserId(1))
    store.take(ChannelUserId(1))
    mike.receive(world.envelope("hello again"))
    conversation = store.take(ChannelUserId(1)).open[0]
    with pytest.raises(StaleLeaseError):
        store.reset(user, conversation)
    assert world.database.value("SELECT closed_at IS NULL FROM conversations WHERE id = 2")


# --- adopt -------------------------------------------------------------------------------------


def test_a_conversation_made_elsewhere_is_gone_on_with(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    made = mike.operator.adopt.telnyx.create(uuid4(), "elsewhere", {USER_KEY: "x", "theirs": "1"})
    other = str(made.id)
    world.simulator.append_foreign_message(other, "from before")

    assert "tag of another" in refused(world, "conversations", "adopt", WHO, other)
    done = told(world, "conversations", "adopt", WHO, other, "--force")
    assert done["base_user_messages"] == 1
    assert done["telnyx_told"] is True
    mike.receive(world.envelope("and now"))
    assert thread(world, other) == ["from before", "and now"]
    tag = user_tag(
        NAMESPACE, ChannelAddress(channel="sms", recipient="", address=USER, thread=""), "default"
    )
    (tagged,) = [one for one in world.simulator.conversations() if one.id == other]
    assert (tagged.metadata[USER_KEY], tagged.metadata["theirs"]) == (tag, "1")
    rows = world.database.rows("SELECT close_reason FROM conversations ORDER BY id")
    assert [row["close_reason"] for row in rows] == ["adopted", None]


def test_a_lost_answer_on_an_adopted_conversation_is_found_there(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    before = newest(world)
    told(world, "conversations", "reset", WHO)
    mike.receive(world.envelope("elsewhere"))
    told(world, "conversations", "adopt", WHO, before)
    world.simulator.inject("stored_then_dropped")
    mike.receive(world.envelope("are you open?"))
    wait(world, mike, 3)

    assert world.replies()[-1]["source"] == "adopted"
    assert thread(world, before) == ["hello", "are you open?"]


@pytest.mark.parametrize(
    ("other", "wanted"),
    [("of somebody else", "belongs to channel user 2"), ("nowhere", "Telnyx has no conversation")],
)
def test_what_cannot_be_adopted_is_refused(world: World, other: str, wanted: str) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    mike.receive(world.envelope("hello", user="+13125550009"))
    telnyx_id = newest(world) if other == "of somebody else" else str(uuid4())
    assert wanted in refused(world, "conversations", "adopt", WHO, telnyx_id, "--force")
    assert world.database.value("SELECT count(*) FROM conversations WHERE closed_at IS NULL") == 2


def test_a_diverged_user_goes_on_on_their_own_conversation_when_it_is_counted_anew(
    world: World,
) -> None:
    mike = diverge(world)
    done = told(world, "conversations", "adopt", WHO, newest(world))
    assert (done["base_user_messages"], done["open_turn"]) == (2, 2)
    world.simulator.inject("dropped")  # so that it is read back before it is sent once more
    mike.answer()
    wait(world, mike, QUIET_S + 1)

    assert thread(world, newest(world)) == ["hello", "a stranger's words", "are you open?"]
    assert [row["source"] for row in world.replies()] == ["call", "call"]
    world.simulator.inject("stored_then_dropped")
    mike.receive(world.envelope("thanks"))
    wait(world, mike, 3)
    assert world.replies()[-1]["source"] == "adopted"


def test_words_that_had_landed_behind_a_strangers_are_not_sent_again(world: World) -> None:
    mike = diverge(world, "stored_then_dropped")
    done = told(world, "conversations", "adopt", WHO, newest(world))
    assert done["base_user_messages"] == 2
    mike.answer()

    assert thread(world, newest(world)) == ["hello", "a stranger's words", "are you open?"]
    assert [row["source"] for row in world.replies()] == ["call", "adopted"]


def test_words_that_a_stranger_wrote_after_are_not_guessed_about(world: World) -> None:
    mike = diverge(world, "foreign_message_after")
    assert "reset instead" in refused(world, "conversations", "adopt", WHO, newest(world))
    told(world, "conversations", "reset", WHO)
    mike.answer()
    assert [row["outcome"] for row in world.messages()] == ["answered", "answered"]
