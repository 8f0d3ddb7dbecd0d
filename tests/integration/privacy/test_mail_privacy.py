"""Mails are personal data: exported, erased with their person, and redacted when they are old."""

import json
from collections.abc import Iterator

import pytest

from tests.support.mails import AGENTS, Out, mail_of, smtp, take_mail
from tests.support.world import HandDrivenWorker, World
from worker.domain.ids import ChannelUserId
from worker.handlers.intake.take_mail import TakeMail
from worker.store.database import Database
from worker.store.privacy.retention import RetentionStore

BEN = "ben@example.com"
IDS = "SELECT message_id FROM mails ORDER BY id"


@pytest.fixture
def database(world: World) -> Iterator[Database]:
    database = Database(world.database.url)
    yield database
    database.close()


@pytest.fixture
def take(world: World, database: Database) -> TakeMail:
    return take_mail(world, database, f"{AGENTS}keep_raw = true\n")


def worker(world: World) -> HandDrivenWorker:
    """Start one, and let it take up what has come."""
    mike = world.worker(AGENTS, channels={"mail": Out()})
    while mike.service.background.drain_inbox():
        pass
    return mike


def four_mails(take: TakeMail) -> None:
    take.take(mail_of("First topic"), smtp())
    take.take(mail_of("Other topic", message_id="<other@x>"), smtp())
    take.take(mail_of("I am away", message_id="<away@x>", Auto_Submitted="auto-replied"), smtp())
    take.take(mail_of("Hello", message_id="<ben@x>", sender=BEN), smtp(BEN))


def first_user(world: World) -> ChannelUserId:
    return ChannelUserId(world.database.value("SELECT min(id) FROM channel_users"))


def test_erasing_takes_the_mails_of_a_thread_and_what_machines_wrote_from_the_address(
    world: World, take: TakeMail
) -> None:
    four_mails(take)
    mike = worker(world)
    world.clock.advance(5)
    mike.answer()
    world.database.run(
        "INSERT INTO mails (channel, recipient, address, thread, root, message_id, delivery_id)"
        " SELECT channel, '', '', '', '', 'ours', min(id) FROM deliveries GROUP BY 1 LIMIT 1"
    )
    world.clock.advance(600)
    removed = mike.operator.erase(first_user(world), None)
    assert removed["mails"] == 3
    assert [row["message_id"] for row in world.database.rows(IDS)] == ["<other@x>", "<ben@x>"]


def test_an_export_has_the_mails_as_they_came(world: World, take: TakeMail) -> None:
    four_mails(take)
    mike = worker(world)
    found = json.loads("".join(mike.operator.export(first_user(world))))["mails"]
    assert [one["message_id"] for one in found] == ["<one@example.org>", "<away@x>"]
    assert found[0]["original"].strip() == "First topic"
    assert found[0]["raw"]


def test_old_texts_go_and_a_late_answer_still_finds_its_thread(
    world: World, take: TakeMail, database: Database
) -> None:
    four_mails(take)
    retention = RetentionStore(database, keep_days=30)
    world.clock.advance(29 * 86400)
    assert [counts for counts in retention.run() if counts] == []
    world.clock.advance(2 * 86400)
    assert {"mails": 4} in list(retention.run(dry_run=True))
    assert {"mails": 4} in list(retention.run())
    (row,) = world.database.rows(
        "SELECT DISTINCT subject, from_name, original, raw, redacted_at IS NULL AS whole FROM mails"
    )
    assert row == dict.fromkeys(("original", "raw")) | {
        "subject": "",
        "from_name": "",
        "whole": False,
    }
    take.take(mail_of("Now", message_id="<new@x>", In_Reply_To="<one@example.org>"), smtp())
    threads = world.database.rows("SELECT thread FROM mails ORDER BY id")
    assert threads[-1] == threads[0]
