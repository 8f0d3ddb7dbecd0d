"""Late replies wait for the hours of their person; an immediate answer never does."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from tests.integration.delivery.test_sms_channel import (
    again,
    long_reply,
    outbound,
    sends,
    states,
    texted,
    why,
)
from tests.support.world import USER, HandDrivenWorker, World
from worker.channels.zones import zones_by_number
from worker.domain.ids import ChannelUserId
from worker.domain.sms.receipts import Receipt
from worker.store.delivery.receipts import ReceiptStore

# The person's number is of Chicago.
CHICAGO = ZoneInfo("America/Chicago")
CONFIG = """
[channels.sms]
driver = "telnyx"
disclosure = "none"
delivery_max_age_s = 3600
[channels.sms.hours]
from = "08:00"
to = "21:00"
zone = "Europe/Berlin"
"""


def go_to(world: World, clock: str) -> None:
    """Advance to the next time that a clock in Chicago shows this."""
    now: datetime = world.database.value("SELECT service_now()").astimezone(CHICAGO)
    hour, minute = map(int, clock.split(":"))
    then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if then <= now:
        then = (then + timedelta(days=1)).replace(hour=hour, minute=minute)
    world.clock.advance((then.astimezone(UTC) - now.astimezone(UTC)).total_seconds())


def delivery(world: World) -> dict[str, Any]:
    query = "SELECT * FROM deliveries ORDER BY id DESC LIMIT 1"
    (row,) = world.database.rows(query)
    return row


def shown(moment: datetime) -> str:
    return f"{moment.astimezone(CHICAGO):%H:%M}"


@pytest.fixture
def mike(world: World) -> HandDrivenWorker:
    go_to(world, "23:00")
    return world.worker(CONFIG)


def late(world: World, mike: HandDrivenWorker) -> None:
    """The reply to a message of 23:00 could not leave before 23:50."""
    world.simulator.inject("429_retry_after", endpoint="send", retry_after_s=1)
    texted(world, mike)
    go_to(world, "23:50")
    again(world, mike, 0)


def test_an_immediate_answer_goes_out_in_the_night(world: World, mike: HandDrivenWorker) -> None:
    texted(world, mike)
    assert states(world) == ["sent"]


def test_a_late_reply_waits_for_the_morning_of_its_person_and_leaves_once(
    world: World, mike: HandDrivenWorker
) -> None:
    late(world, mike)
    row = delivery(world)
    assert (row["state"], shown(row["due_at"]), row["attempts"]) == ("pending", "08:00", 1)
    assert row["counts_from"] == row["due_at"]
    assert "waits for the hours of its channel" in why(world)
    go_to(world, "07:59")
    again(world, mike, 0)
    assert len(sends(world)) == 1
    again(world, mike, 60)
    assert states(world) == ["sent"], "nine hours are no reason to drop it"
    again(world, mike)
    assert len(outbound(world)) == 1


def test_what_our_staff_says_waits_too(world: World, mike: HandDrivenWorker) -> None:
    texted(world, mike)
    go_to(world, "23:50")
    user = ChannelUserId(world.database.value("SELECT id FROM channel_users"))
    mike.operator.say(user, "We have found it.", key=uuid4(), deliver_only=True)
    mike.service.deliver(user)
    assert states(world) == ["sent", "pending"]
    go_to(world, "08:00")
    again(world, mike, 0)
    assert [one.text for one in outbound(world)][1:] == ["We have found it."]


def test_all_that_waits_for_one_person_waits_in_order(world: World, mike: HandDrivenWorker) -> None:
    late(world, mike)
    user = ChannelUserId(world.database.value("SELECT id FROM channel_users"))
    mike.operator.say(user, "And one more thing.", key=uuid4(), deliver_only=True)
    mike.service.deliver(user)
    assert states(world) == ["pending", "pending"]
    go_to(world, "08:01")
    again(world, mike, 0)
    assert states(world) == ["sent", "sent"]
    assert outbound(world)[1].text == "And one more thing."


def test_who_writes_in_the_night_is_awake(world: World, mike: HandDrivenWorker) -> None:
    late(world, mike)
    world.clock.advance(60)
    texted(world, mike, "are you there?")
    assert states(world) == ["sent", "sent"], "the one that waited is not an hour old"


def test_what_is_brought_forward_leaves_at_a_moment_of_its_own(world: World) -> None:
    go_to(world, "23:00")
    mike = world.worker(f"{CONFIG}[channels.sms.telnyx]\nmessages_per_second = 0.1\n")
    late(world, mike)
    world.clock.advance(10)
    texted(world, mike, "are you there?", user="+13125550007")
    world.clock.advance(1)
    texted(world, mike, "are you there?")
    assert states(world) == ["pending", "sent", "pending"], "another person's has just left"
    assert not mike.service.deliver.store.due(limit=10, grace_s=0)
    again(world, mike, 10)
    assert states(world) == ["sent", "sent", "pending"]
    again(world, mike, 10)
    assert states(world) == ["sent", "sent", "sent"]


def test_a_reply_that_newer_messages_have_overtaken_does_not_leave(
    world: World, mike: HandDrivenWorker
) -> None:
    late(world, mike)
    go_to(world, "02:00")
    texted(world, mike, "never mind, it works")
    assert states(world) == ["superseded", "sent"]
    assert len(outbound(world)) == 1


def test_a_sweep_finds_a_reply_behind_one_that_waits(world: World, mike: HandDrivenWorker) -> None:
    late(world, mike)
    mike.receive(world.envelope("are you there?", recipient="+13125550100"))
    mike.broker.deliveries.clear()
    world.clock.advance(60)
    due = mike.service.deliver.store.due(limit=10, grace_s=1)
    assert [
        world.database.value("SELECT address FROM channel_users WHERE id = %s", one) for one in due
    ] == [USER]


@pytest.mark.parametrize("text", ["HELP", "STOP"])
def test_a_keyword_is_answered_in_the_night(world: World, text: str) -> None:
    go_to(world, "12:00")
    screening = """[channels.sms.screening]
help_text = "Acme, call us."
stop_text = "You get no more of this."
"""
    mike = world.worker(f"{CONFIG}{screening}")
    texted(world, mike)
    go_to(world, "23:00")
    texted(world, mike, text)
    again(world, mike, 0)
    assert states(world) == ["sent", "sent"]


def test_a_reply_in_pieces_is_not_torn_apart(world: World) -> None:
    long_reply(world)
    go_to(world, "20:45")
    mike = world.worker(f"{CONFIG}[channels.sms.telnyx]\nsplit = true\nmax_parts = 1\n")
    world.simulator.inject("429_retry_after", endpoint="send", retry_after_s=1)
    texted(world, mike, "long")
    go_to(world, "20:59")
    world.simulator.inject("503", endpoint="send", skip=1)
    again(world, mike, 0)
    assert states(world)[:2] == ["sent", "sending"]
    go_to(world, "21:01")
    again(world, mike, 0)
    assert set(states(world)) == {"sent"}


def test_a_reply_to_a_replayed_message_is_not_overtaken_by_what_was_answered_before(
    world: World, mike: HandDrivenWorker
) -> None:
    world.simulator.inject("no_message")
    texted(world, mike, "a hard one")
    texted(world, mike, "an easy one")
    (letter,) = mike.operator.dead_letters.find()
    go_to(world, "23:50")
    assert mike.operator.dead_letters.revive(letter)
    mike.answer()
    again(world, mike, 0)
    assert states(world) == ["sent", "pending"]
    go_to(world, "08:00")
    again(world, mike, 0)
    assert states(world) == ["sent", "sent"]


def test_a_replayed_reply_that_had_waited_is_as_old_as_the_replay(
    world: World, mike: HandDrivenWorker
) -> None:
    late(world, mike)
    world.simulator.inject("400", endpoint="send", code="40322")
    go_to(world, "08:00")
    again(world, mike, 0)
    (letter,) = mike.operator.dead_letters.find()
    go_to(world, "12:00")
    assert mike.operator.dead_letters.revive(letter)
    again(world, mike, 0)
    assert states(world) == ["sent"]


def test_a_repetition_is_as_old_as_the_message_that_had_waited(
    world: World, mike: HandDrivenWorker
) -> None:
    late(world, mike)
    go_to(world, "08:00")
    again(world, mike, 0)
    receipts = ReceiptStore(mike.service.deliver.store._database)
    key = delivery(world)["idempotency_key"]
    failed = Receipt(
        key=key, provider_id="p", status="delivery_failed", error="40008", repeatable=True
    )
    assert receipts.record(failed)
    again(world, mike, 61)
    assert states(world) == ["failed", "sent"]


def test_without_hours_nothing_waits(world: World) -> None:
    go_to(world, "23:00")
    mike = world.worker(CONFIG.split("[channels.sms.hours]", maxsplit=1)[0])
    late(world, mike)
    assert states(world) == ["sent"]


def test_the_zones_of_numbers() -> None:
    zones = zones_by_number()
    assert zones("+13125550001") == (CHICAGO,)
    assert len(zones("+18005550001")) > 20, "toll-free: anywhere"
    assert zones("+4930123456") == (ZoneInfo("Europe/Berlin"),)
    assert zones("ada@example.org") == ()
    assert zones("+999123") == ()


def test_a_draft_approved_at_night_leaves_at_the_start_of_the_window_once(world: World) -> None:
    go_to(world, "23:00")
    mike = world.worker(
        CONFIG.replace("[channels.sms.hours]", "approve = 'all'\n[channels.sms.hours]", 1)
    )
    texted(world, mike)
    go_to(world, "23:50")
    (draft,) = mike.operator.drafts.waiting()
    mike.operator.drafts.approve(draft.id, by="ada")
    again(world, mike, 0)
    row = delivery(world)
    assert (row["state"], shown(row["due_at"]), row["attempts"]) == ("pending", "08:00", 0)
    go_to(world, "07:59")
    again(world, mike, 0)
    assert sends(world) == []
    go_to(world, "08:00")
    again(world, mike, 0)
    again(world, mike)
    assert states(world) == ["sent"]
    assert len(outbound(world)) == 1
