"""Replies on their way to a mailbox: the real channel, and a real SMTP server."""

from collections.abc import Iterator

import pytest

from tests.support.smtp_server import SILENT, Mailbox, smtp_server
from tests.support.world import HandDrivenWorker, World
from worker.domain.email.marks import delivery_of_id
from worker.domain.ids import ChannelUserId

CONFIG = """
[channels.email]
driver = "smtp"
disclosure = "none"
[channels.email.mail]
addresses = ["help@acme.example"]
"""
OURS = "help@acme.example"
ADA = "ada@example.org"


@pytest.fixture
def box() -> Mailbox:
    return Mailbox()


@pytest.fixture
def mailing(world: World, box: Mailbox) -> Iterator[World]:
    with smtp_server(box) as port:
        world.smtp_url = f"smtp://127.0.0.1:{port}?plain=true"
        yield world


def wrote(world: World, mike: HandDrivenWorker, text: str = "hello", user: str = ADA) -> None:
    """Somebody has written a mail, and the reply is tried once."""
    number = next(world._numbers)
    message_id = f"<q{number}@example.org>"
    world.database.run(
        "INSERT INTO mails (channel, recipient, address, thread, root, message_id, refs, subject)"
        " VALUES ('email', %s, %s, 't', '<q0@example.org>', %s, %s, %s)",
        OURS,
        user,
        message_id,
        ["<q0@example.org>", message_id],
        f"Topic {number}",
    )
    mike.receive(
        world.envelope(
            text, channel="email", user=user, recipient=OURS, thread="t", message_id=message_id
        )
    )
    mike.deliver()


def again(world: World, mike: HandDrivenWorker, seconds: float) -> None:
    world.clock.advance(seconds)
    for row in world.database.rows("SELECT DISTINCT channel_user_id AS id FROM deliveries"):
        mike.service.deliver(ChannelUserId(row["id"]))


def deliveries(world: World) -> list[tuple[str, str | None]]:
    rows = world.database.rows("SELECT state, provider_status FROM deliveries ORDER BY id")
    return [(row["state"], row["provider_status"]) for row in rows]


def test_a_reply_is_a_mail_in_the_thread_of_the_newest_one(mailing: World, box: Mailbox) -> None:
    mike = mailing.worker(CONFIG)
    wrote(mailing, mike)
    mailing.clock.advance(10)
    wrote(mailing, mike, "and again")
    assert [state for state, _ in deliveries(mailing)] == ["sent", "sent"]
    first, second = box.parsed()
    assert first["Subject"] != second["Subject"]
    newest = mailing.database.value(
        "SELECT message_id FROM mails WHERE delivery_id IS NULL ORDER BY id DESC LIMIT 1"
    )
    assert second["In-Reply-To"] == newest
    assert second["References"] == f"<q0@example.org> {newest}"
    kept = mailing.database.rows(
        "SELECT message_id, delivery_id, root, thread, subject FROM mails"
        " WHERE delivery_id IS NOT NULL ORDER BY id"
    )
    key = bytes(mailing.database.value("SELECT value FROM secrets WHERE name = 'mail'"))
    assert [one["message_id"] for one in kept] == [first["Message-ID"], second["Message-ID"]]
    assert [delivery_of_id(one["message_id"], key) for one in kept] == [
        one["delivery_id"] for one in kept
    ]
    assert {(one["root"], one["thread"]) for one in kept} == {("<q0@example.org>", "t")}


def test_silence_after_the_end_is_unknown_and_never_sent_again(
    mailing: World, box: Mailbox
) -> None:
    mike = mailing.worker(CONFIG)
    object.__setattr__(mike.service.deliver.channels["email"], "answer_s", 0.2)
    box.answers["end"] = [SILENT]
    wrote(mailing, mike)
    again(mailing, mike, 3600)
    ((state, why),) = deliveries(mailing)
    assert state == "unknown"
    assert why is not None
    assert why.startswith("smtp: no answer after the mail")
    assert len(box.mails) == 1


def test_greylisting_waits_five_minutes_and_sends_the_same_mail(
    mailing: World, box: Mailbox
) -> None:
    mike = mailing.worker(CONFIG)
    box.answers["RCPT"] = ["451 4.7.1 greylisted", ""]
    wrote(mailing, mike)
    request = mailing.database.value("SELECT request FROM deliveries")
    again(mailing, mike, 290)
    assert deliveries(mailing) == [("pending", "smtp RCPT 451 4.7.1")]
    again(mailing, mike, 20)
    assert [state for state, _ in deliveries(mailing)] == ["sent"]
    assert mailing.database.value("SELECT request FROM deliveries") == request
    assert mailing.database.rows("SELECT name FROM gates") == []


def test_an_address_that_nobody_has_gets_no_further_mail(mailing: World, box: Mailbox) -> None:
    mike = mailing.worker(CONFIG)
    box.answers["RCPT"] = ["550 5.1.1 <ada@example.org> unknown", ""]
    wrote(mailing, mike)
    assert deliveries(mailing) == [("failed", "smtp RCPT 550 5.1.1")]
    (entry,) = mailing.database.rows("SELECT scope, source, address, stopped FROM consents")
    assert entry == {"scope": "email", "source": "bounce", "address": ADA, "stopped": True}
    (letter,) = mike.operator.dead_letters.find()
    assert letter.detail == "smtp RCPT 550 5.1.1"
    wrote(mailing, mike, "hello?")
    assert mailing.messages()[-1]["outcome"] == "opted_out"
    assert not box.mails


def test_a_server_that_is_away_holds_back_the_channel_and_not_others(
    mailing: World, box: Mailbox
) -> None:
    mike = mailing.worker(CONFIG)
    box.answers["MAIL"] = ["550 5.7.1 not you"]
    wrote(mailing, mike)
    wrote(mailing, mike, user="bob@example.com")
    assert [state for state, _ in deliveries(mailing)] == ["pending", "pending"]
    assert box.seen.count("MAIL") == 1
    assert [row["name"] for row in mailing.database.rows("SELECT name FROM gates")] == [
        "smtp:email"
    ]
    box.answers.clear()
    again(mailing, mike, 301)
    assert [state for state, _ in deliveries(mailing)] == ["sent", "sent"]
    assert mailing.database.rows("SELECT name FROM gates") == []


def test_one_domain_gets_so_many_a_minute(mailing: World, box: Mailbox) -> None:
    mike = mailing.worker(CONFIG + "per_domain_per_minute = 6\n")
    for user in ("a@example.org", "b@example.org", "c@example.com"):
        wrote(mailing, mike, user=user)
    assert sorted(one.rcpt_tos[0] for one in box.mails) == ["a@example.org", "c@example.com"]
    again(mailing, mike, 11)
    assert [state for state, _ in deliveries(mailing)] == ["sent"] * 3


def test_the_id_that_a_relay_has_given_the_mail_finds_its_answer(
    mailing: World, box: Mailbox
) -> None:
    mike = mailing.worker(CONFIG)
    box.answers["end"] = ["250 2.6.0 <new@relay.example> [InternalId=1] Queued"]
    wrote(mailing, mike)
    kept = mailing.database.rows("SELECT message_id FROM mails WHERE delivery_id IS NOT NULL")
    assert kept == [{"message_id": "<new@relay.example>"}]
