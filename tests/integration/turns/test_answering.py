"""The turn, step by step: real Postgres, the simulator over HTTP, time moved by hand."""

import pytest

from tests.support.world import USER, World
from worker.domain.errors import StaleLeaseError
from worker.domain.turns.claim import Claimed


def test_a_message_is_answered_on_the_fast_path(world: World) -> None:
    world.worker().receive(world.envelope("hello"))

    assert world.messages() == [
        {"text": "hello", "state": "answered", "outcome": "answered", "late": False}
    ]
    assert world.inputs() == ["hello"]
    (reply,) = world.replies()
    assert "hello" in reply["text"]
    assert reply["source"] == "call"


def test_an_attachment_with_fields_that_nobody_knows_is_no_obstacle(world: World) -> None:
    image = {"url": "https://example.org/1.png", "content_type": "image/png", "size": 4711}
    world.worker().receive(world.envelope("look", attachments=[image]))

    assert [row["outcome"] for row in world.messages()] == ["answered"]
    assert (
        world.database.value("SELECT envelope->'attachments'->0->>'size' FROM messages") == "4711"
    )


def test_the_same_message_id_again_changes_nothing_and_a_new_body_is_counted(world: World) -> None:
    mike = world.worker()
    first = world.envelope("hello")
    mike.receive(first)
    before = world.database.rows("SELECT * FROM channel_users")

    again = mike.receive(first)
    other = mike.receive({**first, "text": "something else"})

    assert again is not None
    assert not again.fresh
    assert other is not None
    assert other.conflicting
    assert world.inputs() == ["hello"]
    assert world.database.rows("SELECT * FROM channel_users") == before
    assert world.database.value("SELECT conflicts FROM messages") == 1


def test_what_waits_together_is_one_turn_with_one_user_item(world: World) -> None:
    mike = world.worker()
    for text in ("one", "two", "three"):
        mike.accept_only(world.envelope(text))
    mike.answer()

    assert world.inputs() == ["one\ntwo\nthree"]
    assert len(world.replies()) == 1
    assert {row["state"] for row in world.messages()} == {"answered"}


def test_waiting_messages_are_sorted_by_when_they_were_sent(world: World) -> None:
    mike = world.worker()
    mike.accept_only(world.envelope("second", sent_at="2026-01-01T10:00:02Z"))
    mike.accept_only(world.envelope("first", sent_at="2026-01-01T10:00:01Z"))
    assert mike.sweep() == 0, "messages with sent_at wait for others on their way"
    world.clock.advance(0.3)
    mike.answer()
    mike.accept_only(world.envelope("too late", sent_at="2026-01-01T10:00:00Z"))
    world.clock.advance(0.3)
    mike.answer()

    assert world.inputs() == ["first\nsecond", "too late"]
    assert [row["late"] for row in world.messages()] == [False, False, True]


def test_a_turn_takes_twenty_messages_and_leaves_the_rest_to_the_next(world: World) -> None:
    mike = world.worker()
    for number in range(23):
        mike.accept_only(world.envelope(str(number)))
    mike.answer()

    assert world.inputs() == [
        "\n".join(str(number) for number in range(20)),
        "20\n21\n22",
    ]


def test_instructions_go_out_first_and_when_they_changed(world: World) -> None:
    before = '[agents.default]\ninstructions = "be kind"\n'
    after = '[agents.default]\ninstructions = "be brief"\n'
    mike, anna = world.worker(before), world.worker(after)
    for worker in (mike, mike, anna, anna):
        worker.receive(world.envelope("hello"))

    sent = world.database.rows("SELECT instructions_hash FROM calls ORDER BY id")
    assert [row["instructions_hash"] is not None for row in sent] == [True, False, True, False]
    assert sent[0] != sent[2]


def test_a_user_whose_worker_died_is_taken_over_when_its_row_has_lapsed(world: World) -> None:
    mike, anna = world.worker(), world.worker()
    mike.accept_only(world.envelope("hello"))
    world.database.run(
        "UPDATE channel_users SET lease_owner ="
        " (SELECT id FROM workers ORDER BY started_at LIMIT 1),"
        " lease_until = service_now() + interval '90 s', lease_token = 7"
    )
    anna.answer()
    assert world.inputs() == []

    world.clock.advance(16)
    anna.service.background.workers.beat()
    anna.answer()
    assert world.inputs() == ["hello"]
    assert world.database.value("SELECT lease_token FROM channel_users") == 8


def test_a_lease_of_a_worker_without_a_row_holds_nobody_up(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("one"))
    mike.deliver()
    world.database.run(
        "UPDATE channel_users SET lease_owner = gen_random_uuid(), due_at = service_now(),"
        " lease_until = service_now() + interval '90 s'"
    )

    mike.receive(world.envelope("two"))

    assert world.inputs() == ["one", "two"]
    assert world.database.value("SELECT lease_owner FROM channel_users") is None


def test_a_worker_whose_row_is_gone_is_taken_over_and_settles_nothing(world: World) -> None:
    mike, anna = world.worker(beats=False), world.worker()
    mike.accept_only(world.envelope("hello"))
    user_id = world.database.value("SELECT id FROM channel_users")
    held = mike.service.answer.claims.claim(user_id)
    assert isinstance(held, Claimed)

    taken = anna.service.answer.claims.claim(user_id)

    assert isinstance(taken, Claimed)
    assert taken.lease.token == held.lease.token + 1
    with pytest.raises(StaleLeaseError):
        mike.service.answer.turns.record_intent(held)


def test_rows_of_workers_that_died_long_ago_go_and_their_leases_with_them(world: World) -> None:
    mike, anna = world.worker(), world.worker()
    mike.accept_only(world.envelope("hello"))
    user_id = world.database.value("SELECT id FROM channel_users")
    assert isinstance(mike.service.answer.claims.claim(user_id), Claimed)
    world.clock.advance(86_400 + 16)
    anna.service.background.workers.beat()

    anna.service.background.workers.forget_dead()

    assert world.database.value("SELECT count(*) FROM workers") == 1
    anna.answer()
    assert world.inputs() == ["hello"]


def test_a_conversation_made_earlier_is_found_by_its_metadata(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    (before,) = world.simulator.conversations()
    world.database.run("TRUNCATE channel_users, workers CASCADE")
    world.clock.advance(0)

    world.worker().receive(world.envelope("again"))

    (after,) = world.simulator.conversations()
    assert after.id == before.id
    assert world.database.value("SELECT base_user_messages FROM conversations") == 1


def test_each_user_recipient_and_thread_has_a_conversation_of_its_own(world: World) -> None:
    mike = world.worker()
    for fields in ({}, {"recipient": "+13125550099"}, {"thread": "t"}, {"channel": "web"}):
        mike.receive(world.envelope("hello", **fields))
    mike.receive(world.envelope("hello", user="+13125550002"))

    assert len(world.simulator.conversations()) == 5


@pytest.mark.parametrize(("channel", "user"), [("sms", USER), ("email", "someone@example.org")])
def test_nothing_a_person_wrote_or_is_called_stands_in_telnyx_metadata(
    world: World, channel: str, user: str
) -> None:
    world.worker().receive(world.envelope("hello", channel=channel, user=user))
    (conversation,) = world.simulator.conversations()
    assert user not in str(conversation.metadata) + conversation.name


def test_a_conversation_that_has_had_its_turns_is_rotated(world: World) -> None:
    mike = world.worker("[agents.default]\nmax_turns = 2\n")
    for text in ("one", "two", "three", "four", "five"):
        mike.receive(world.envelope(text))

    assert world.inputs() == ["one", "two", "three", "four", "five"]
    rows = world.database.rows("SELECT close_reason FROM conversations ORDER BY id")
    assert [row["close_reason"] for row in rows] == ["rotated", "rotated", None]
    assert len(world.simulator.conversations()) == 3


def test_a_conversation_that_has_rested_too_long_is_not_taken_up_again(world: World) -> None:
    mike = world.worker("[channels.sms]\nidle_reset_s = 3600\n")
    mike.receive(world.envelope("one"))
    world.clock.advance(3000)
    mike.receive(world.envelope("two"))
    world.clock.advance(3700)
    mike.receive(world.envelope("three"))

    rows = world.database.rows("SELECT close_reason FROM conversations ORDER BY id")
    assert [row["close_reason"] for row in rows] == ["idle", None]
    assert len(world.simulator.conversations()) == 2


def test_a_channel_without_persistence_calls_without_a_conversation(world: World) -> None:
    mike = world.worker("[channels.sms]\npersist = false\n[agents.default]\ninstructions = 'x'\n")
    mike.receive(world.envelope("one"))
    mike.receive(world.envelope("two"))
    assert world.simulator.conversations() == ()
    assert len(world.replies()) == 2
    hashes = world.database.rows("SELECT instructions_hash FROM calls")
    assert all(row["instructions_hash"] for row in hashes), "a stateless call knows nothing"
