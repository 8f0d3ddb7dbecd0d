"""Replies on their way to a phone: the real channel, and Telnyx simulated."""

import json
from datetime import UTC, datetime, time, timedelta

import pytest

from tests.support.world import HandDrivenWorker, World
from worker.domain.ids import ChannelUserId, MessageRowId
from worker.domain.reports.explain_ended import ended
from worker.domain.sms.receipts import Receipt
from worker.sandbox.simulator.behaviour.model import Script
from worker.sandbox.simulator.record.events import RequestReceived
from worker.sandbox.simulator.record.sms import Sms
from worker.store.database import Database
from worker.store.delivery.receipts import ReceiptStore
from worker.store.reports.message_history import MessageReports

CONFIG = '[channels.sms]\ndriver = "telnyx"\n'
OUR_NUMBER = "+13125550100"


def worker_of(world: World, *, options: str = "") -> HandDrivenWorker:
    return world.worker(f"{CONFIG}[channels.sms.telnyx]\n{options}")


def texted(world: World, mike: HandDrivenWorker, text: str = "hello", **more: str) -> None:
    """Somebody writes to our number, and the reply is tried once."""
    mike.receive(world.envelope(text, recipient=OUR_NUMBER, **more))
    mike.deliver()


def again(world: World, mike: HandDrivenWorker, seconds: float = 60) -> None:
    world.clock.advance(seconds)
    for row in world.database.rows("SELECT DISTINCT channel_user_id AS id FROM deliveries"):
        mike.service.deliver(ChannelUserId(row["id"]))


def outbound(world: World) -> list[Sms]:
    return [one for one in world.simulator.sms() if one.direction == "outbound"]


def states(world: World) -> list[str]:
    rows = world.database.rows("SELECT state FROM deliveries ORDER BY coalesce(part_of, id), id")
    return [row["state"] for row in rows]


def gates(world: World) -> list[tuple[str, str]]:
    rows = world.database.rows("SELECT name, reason FROM gates ORDER BY name")
    return [(row["name"], row["reason"]) for row in rows]


def sends(world: World) -> list[RequestReceived]:
    events = [one.event for one in world.simulator.log()]
    return [one for one in events if isinstance(one, RequestReceived) and one.endpoint == "send"]


def test_a_reply_goes_out_from_the_number_that_they_wrote_to(world: World) -> None:
    mike = worker_of(world)
    texted(world, mike)
    (sms,) = outbound(world)
    assert (sms.sender, sms.recipient) == (OUR_NUMBER, "+13125550001")
    (row,) = world.database.rows(
        "SELECT state, provider_id, parts, request, idempotency_key FROM deliveries"
    )
    assert (row["state"], row["provider_id"], row["parts"]) == ("sent", sms.id, sms.parts)
    assert json.loads(row["request"])["text"] == sms.text
    assert str(row["idempotency_key"]) in str(sms.webhook_url)


@pytest.mark.parametrize("fault", ["stored_then_dropped", "stored_then_502_html", "send_lost"])
def test_a_lost_answer_is_asked_for_again_and_one_message_goes_out(
    world: World, fault: str
) -> None:
    mike = worker_of(world)
    world.simulator.inject(fault, endpoint="send")
    texted(world, mike)
    assert states(world) == ["sending"]
    again(world, mike)
    assert states(world) == ["sent"]
    assert len(outbound(world)) == 1
    first, second = sends(world)
    assert first.body_digest == second.body_digest
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_somebody_who_is_blocked_has_opted_out_and_it_is_no_dead_letter(world: World) -> None:
    mike = worker_of(world)
    world.simulator.inject("403", endpoint="send", code="40300")
    texted(world, mike)
    assert states(world) == ["opted_out"]
    assert mike.operator.dead_letters.find() == ()
    assert gates(world) == []


def test_the_spend_limit_holds_everybody_back_until_midnight_without_an_attempt(
    world: World,
) -> None:
    mike = worker_of(world)
    world.simulator.inject("429_retry_after", endpoint="send", code="40333", count=None)
    texted(world, mike)
    texted(world, mike, user="+13125550002")
    assert states(world) == ["pending", "pending"]
    assert len(sends(world)) == 1
    assert gates(world) == [("telnyx:sms", "spend_limit")]
    until = world.database.value("SELECT closed_until FROM gates")
    assert until.astimezone(UTC).time() == time(0)
    assert timedelta() < until - datetime.now(UTC) <= timedelta(days=1)
    assert mike.operator.dead_letters.find() == ()


def test_a_full_queue_holds_back_one_number_only_and_a_success_forgets_it(world: World) -> None:
    mike = worker_of(world)
    world.simulator.inject("queue_full")
    texted(world, mike)
    mike.receive(world.envelope("hi", user="+13125550002", recipient="+13125550199"))
    mike.receive(world.envelope("hi", user="+13125550003", recipient=OUR_NUMBER))
    mike.deliver()
    assert states(world) == ["pending", "sent", "pending"]
    ((gate, reason),) = gates(world)
    assert reason == "code 40318"
    assert gate.startswith("telnyx:sms:")
    assert OUR_NUMBER[1:] not in gate
    again(world, mike, 61)
    assert states(world) == ["sent", "sent", "sent"]
    assert gates(world) == []


def long_reply(world: World) -> None:
    words = " ".join(f"Sentence number {number}." for number in range(20))
    world.simulator.script(Script(text="long", reply=words))
    world.simulator.reconfigure(show_prefix=False)


def test_the_pieces_of_a_reply_go_out_in_order_before_a_later_reply(world: World) -> None:
    long_reply(world)
    mike = worker_of(world, options="split = true\nmax_parts = 1\n")
    world.simulator.inject("503", endpoint="send", skip=1)
    # The later reply is there before the pieces are made.
    for text in ("long", "short"):
        mike.receive(world.envelope(text, recipient=OUR_NUMBER))
    mike.deliver()
    assert states(world)[:2] == ["sent", "sending"]
    again(world, mike)
    texts = [sms.text for sms in outbound(world)]
    count = len(texts) - 1
    assert count >= 3
    assert [text[:6] for text in texts[:-1]] == [f"({n}/{count}) " for n in range(1, count + 1)]
    assert set(states(world)) == {"sent"}


def test_a_rejected_piece_cancels_those_after_it_and_not_the_next_reply(world: World) -> None:
    long_reply(world)
    mike = worker_of(world, options="split = true\nmax_parts = 1\n")
    world.simulator.inject("400", endpoint="send", code="40322", skip=1)
    texted(world, mike, "long")
    texted(world, mike, "short")
    assert states(world)[:3] == ["sent", "failed", "cancelled"]
    assert states(world)[-1] == "sent"
    (letter,) = mike.operator.dead_letters.find()
    assert letter.detail == "code 40322"
    (first, second) = world.database.rows("SELECT delivery FROM message_outcomes ORDER BY message")
    assert (first["delivery"], second["delivery"]) == ("failed", "sent")


def test_worker_why_names_the_gate_and_then_what_the_provider_reported(world: World) -> None:
    mike = worker_of(world)
    world.simulator.inject("queue_full")
    texted(world, mike)
    ((gate, _),) = gates(world)
    assert f"gate {gate} is closed: code 40318" in why(world)
    again(world, mike, 61)
    key = world.database.value("SELECT idempotency_key FROM deliveries")
    receipts = ReceiptStore(mike.service.deliver.store._database)
    receipts.record(Receipt(key=key, provider_id=None, status="delivery_failed", error="40001"))
    assert "the provider reports: delivery_failed, error 40001" in why(world)


def why(world: World) -> str:
    database = Database(world.database.url)
    history = MessageReports(database).read(
        MessageRowId(world.database.value("SELECT max(id) FROM messages"))
    )
    database.close()
    assert history is not None
    return ended(history).what
