"""Replies that leave by Telnyx's API for e-mail, simulated."""

from typing import Any

import pytest

from tests.integration.delivery.test_mail_channel import ADA, CONFIG, again, deliveries, wrote
from tests.support.telnyx_events import event
from tests.support.world import World
from worker.bootstrap.reports import open_database
from worker.channels.sms.events import read_event
from worker.domain.sms.receipts import Receipt
from worker.sandbox.simulator.record.events import MailStored
from worker.store.delivery.receipts import ReceiptStore

TELNYX = CONFIG.replace('"smtp"', '"telnyx_email"')


def mails(world: World) -> list[dict[str, Any]]:
    return [one.event.mail for one in world.simulator.log() if isinstance(one.event, MailStored)]


def test_a_reply_is_a_mail_in_the_thread_of_the_one_it_answers(world: World) -> None:
    wrote(world, world.worker(TELNYX))
    ((state, _),) = deliveries(world)
    assert state == "sent"
    (mail,) = mails(world)
    newest = world.database.value("SELECT message_id FROM mails WHERE delivery_id IS NULL")
    assert (mail["from"], mail["to"]) == ({"email": "help@acme.example"}, [{"email": ADA}])
    assert mail["headers"] == {
        "Auto-Submitted": "auto-replied",
        "X-Auto-Response-Suppress": "All",
        "X-Loop": "help@acme.example",
        "In-Reply-To": newest,
        "References": f"<q0@example.org> {newest}",
    }
    assert mail["html_body"].startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("fault", ["stored_then_dropped", "send_lost"])
def test_a_lost_answer_is_asked_for_again_and_one_mail_leaves(world: World, fault: str) -> None:
    mike = world.worker(TELNYX)
    world.simulator.inject(fault, endpoint="send")
    wrote(world, mike)
    assert deliveries(world)[0][0] == "sending"
    again(world, mike, 60)
    assert deliveries(world)[0][0] == "sent"
    assert len(mails(world)) == 1


def test_a_suppressed_address_gets_no_further_mail(world: World) -> None:
    wrote(world, world.worker(TELNYX), user="suppressed@test.telnyx.com")
    assert deliveries(world) == [("failed", "suppressed")]
    assert world.database.value("SELECT source FROM consents") == "bounce"


def test_the_limit_of_the_account_holds_back_the_channel(world: World) -> None:
    wrote(world, world.worker(TELNYX), user="rate-limit@test.telnyx.com")
    assert deliveries(world) == [("pending", "code 10011")]
    assert world.database.value("SELECT name FROM gates") == "telnyx:email"


def test_a_bounce_that_telnyx_reports_fails_the_delivery(world: World) -> None:
    wrote(world, world.worker(TELNYX))
    mail = world.database.value("SELECT provider_id FROM deliveries")
    receipt = read_event(event("email.bounced", {"id": mail}), None)
    assert isinstance(receipt, Receipt)
    with open_database(world.database.url) as database:
        recorded = ReceiptStore(database).record(receipt)
    assert recorded is not None
    assert deliveries(world)[0][0] == "failed"
