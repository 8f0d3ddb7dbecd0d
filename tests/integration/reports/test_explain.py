"""Which way Postgres takes through tables that have grown: an index for every question.

The plans are those of the statements that the handlers really execute, at a size where the planner
takes an index wherever one fits. EXPLAIN_USERS=200000 does the same with a million messages.
"""

import os
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4, uuid5

import psycopg
import pytest

from bench.fill import fill
from bench.plans import Plan, caught, explain
from tests.support.databases import fresh_database
from tests.support.mails import bounce_of, mail_of, smtp, take_mail
from tests.support.world import HandDrivenWorker, World, running_world
from worker.bootstrap.reports import open_database
from worker.cli.inspect.metrics import parts_of
from worker.domain.email.marks import bounce_address, message_id
from worker.domain.ids import ChannelUserId, DeliveryId
from worker.domain.sms.receipts import Receipt
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.simulator.behaviour.config import SimulatorConfig
from worker.store.database import Database
from worker.store.delivery.receipts import ReceiptStore
from worker.store.operators.audits import AuditStore, Subject
from worker.store.privacy.retention import RetentionStore
from worker.store.reports.by_id import MessageById
from worker.store.reports.gauges import GaugeStore
from worker.store.reports.message_history import MessageReports
from worker.store.reports.recent import RecentStore
from worker.store.reports.status import StatusStore
from worker.store.reports.threads import ThreadStore

USERS, EACH = int(os.environ.get("EXPLAIN_USERS", "2000")), 5
SMALL = frozenset({"cluster", "workers", "gates", "secrets", "test_clock"})
"""Tables of a few rows: to read them whole costs less than their index. The last is a test's."""
FOR_PEOPLE = frozenset(
    {
        "ix_attempt_log_channel_user_id",
        "ix_audits_channel_user_id",
        "ix_dead_letters_message_row_id",
        "ix_dead_letters_names",
        "ix_deliveries_part_of",
        "ix_deliveries_repeats",
    }
)
"""The first is read by a person who looks into what happened and, if it is long, by an erasure; the
second by somebody who asks who has looked at a person; the third and the last by Postgres itself
for each message or delivery that is deleted; the others by producers who wait, through the view
`message_outcomes`."""
DELIVERED = '[channels.web.delivery]\ntask = "t"\nqueue = "q"\n'


@pytest.fixture(scope="module")
def world(
    shared_postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A world that was filled once for this file; its tests add a few rows and mind none."""
    with fresh_database(shared_postgres) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            fill(connection, users=USERS, each=EACH, waiting=True)
            connection.execute(
                "INSERT INTO inbox (envelope, not_before) SELECT '{}', now() + interval '1 year'"
                " FROM generate_series(1, 2000)"
            )
            connection.execute(
                "INSERT INTO consents (scope, address_hash, stopped, source)"
                " SELECT 'telephone', sha256(int4send(i)), true, 'natural'"
                " FROM generate_series(1, 2000) AS i"
            )
            connection.execute(
                "INSERT INTO mails (channel, recipient, address, thread, root, message_id,"
                " delivery_id) SELECT 'mail', '', id || '@x', '', '', '', id FROM deliveries"
                " ORDER BY id LIMIT 2000"
            )
            connection.execute(
                "INSERT INTO disclosures (channel_user_id, delivery_id, language, text)"
                " SELECT channel_user_id, id, 'en', '' FROM deliveries ORDER BY id LIMIT 2000"
            )
            connection.execute(
                "INSERT INTO hand_overs (channel_user_id, agent, reason, notice_id)"
                " SELECT channel_user_id, 'default', 'person', id FROM deliveries LIMIT 2000"
            )
            connection.execute(
                "INSERT INTO workers (id, host, pid, alive_until, finds_intents)"
                " SELECT gen_random_uuid(), '', n, now(), true FROM generate_series(1, 2000) n"
            )
            connection.execute("ANALYZE inbox, consents, mails, disclosures, hand_overs, workers")
        config, folder = SimulatorConfig(list_visible_after_s=0), tmp_path_factory.mktemp("world")
        with running_world(url, folder, config) as made:
            yield made


def plans_of(world: World, do: Callable[[], object]) -> list[Plan]:
    """Do something in this process, and explain every statement it executed."""
    with caught() as statements:
        do()
    distinct = {one.text: one for one in statements}
    with psycopg.connect(world.database.url, autocommit=True) as connection:
        return [explain(connection, one) for one in distinct.values()]


def write_twice(world: World, worker: HandDrivenWorker, user: str) -> None:
    """Somebody new writes, which makes a conversation; then again, which is the usual way."""
    for text in ("hello", "hello again"):
        worker.receive(world.envelope(text, channel="web", user=user))
        worker.deliver()


def read_whole(plans: list[Plan]) -> dict[str, str]:
    return {table: plan.statement for plan in plans for table in plan.read_whole - SMALL}


def used_by(plans: list[Plan]) -> frozenset[str]:
    return frozenset[str]().union(*(plan.indexes for plan in plans))


def test_no_statement_between_a_message_and_its_reply_reads_a_whole_table(world: World) -> None:
    mike = world.worker(DELIVERED)
    plans = plans_of(world, lambda: write_twice(world, mike, "new1"))
    mike.accept_only(world.envelope("hello", channel="web", user="new2"))
    plans += plans_of(world, mike.answer)
    world.database.rows("UPDATE channel_users SET note = 'x' WHERE address = 'new1' RETURNING id")
    plans += plans_of(world, lambda: write_twice(world, mike, "new1"))
    assert len(plans) >= 10, "the statements were caught"
    assert read_whole(plans) == {}
    assert used_by(plans) >= {
        "ix_conversations_channel_user_id",
        "ix_deliveries_held",
        "ix_deliveries_undone",
        "ix_messages_waiting",
        "ix_messages_turn_id",
        "ix_turns_conversation_id",
        "uq_conversations_open",
    }


def test_a_message_that_somebody_asks_for_is_found_through_an_index(world: World) -> None:
    with open_database(world.database.url) as database:
        reports = MessageReports(database)
        plans = plans_of(world, lambda: reports.by_address("web", [("u1", "m"), ("u1:m", "m")]))
        plans += plans_of(world, lambda: reports.by_message_id("old-1"))
    assert len(plans) == 2, "the statements were caught"
    assert read_whole(plans) == {}


def test_a_sweep_reads_no_whole_table(world: World) -> None:
    mike = world.worker(DELIVERED)
    mike.accept_only(world.envelope("hello", channel="web", user="u1"))
    plans = plans_of(world, mike.sweep)
    assert read_whole(plans) == {}
    assert used_by(plans) >= {
        "ix_channel_users_due_at",
        "ix_channel_users_agent_surplus_due_at",
        "ix_deliveries_due_at",
    }


def test_no_scrape_reads_a_whole_table(world: World) -> None:
    def scrape() -> None:
        gauges = GaugeStore(database)
        for part, ask in parts_of(gauges, world.broker_url).items():
            if part not in {"broker", "misplaced"}:
                list(ask())

    with open_database(world.database.url) as database:
        plans = plans_of(world, scrape)
    assert len(plans) == 15, "the statements were caught"
    assert read_whole(plans) == {}


def test_no_list_of_recent_messages_reads_a_whole_table(world: World) -> None:
    with open_database(world.database.url) as database:
        recent = RecentStore(database)

        def look() -> None:
            recent.messages(limit=9, channel="web", state="answered")
            recent.messages(ChannelUserId(1), limit=9)
            recent.users(limit=9)
            recent.users([ChannelUserId(1)], limit=9)

        plans = plans_of(world, look)
    assert len(plans) == 4, "the statements were caught"
    assert read_whole(plans) == {}


def test_every_index_that_forbids_nothing_is_read_by_some_statement(world: World) -> None:
    mike = world.worker(DELIVERED)
    database = Database(world.database.url)
    world.database.run(
        "UPDATE deliveries SET request = '{}', provider_id = id WHERE id IN"
        " (SELECT id FROM deliveries ORDER BY id DESC LIMIT 5000)"
    )
    world.database.run(
        "INSERT INTO audits (who, action, channel_user_id) SELECT 'n' || mod(n, 500),"
        " CASE mod(n, 50) WHEN 0 THEN 'logout' ELSE 'person' END, n"
        " FROM generate_series(1, 20000) n"
    )
    world.database.run("ANALYZE deliveries, audits")

    def everything() -> None:
        write_twice(world, mike, "new2")
        world.database.run("UPDATE channel_users SET note = 'x' WHERE address = 'new2'")
        write_twice(world, mike, "new2")
        mike.accept_only(world.envelope("hello", channel="web", user="u3"))
        mike.answer()
        mike.service.background.drain_inbox()
        StatusStore(database).overview()
        GaugeStore(database).recent("drafts_decided_last_hour")
        mike.operator.dead_letters.find()
        mike.operator.reset(ChannelUserId(5))
        mike.operator.set_paused(ChannelUserId(5), paused=False)
        for _ in RetentionStore(database, keep_days=89).run():
            pass
        MessageById(database).find(uuid5(UUID(int=0), "of the gateway"))
        audits = AuditStore(database)
        audits.record(audits.log_in("anna"), "anna", "person", Subject.PERSON, 5)
        ThreadStore(database).paused()
        receipts = ReceiptStore(database)
        receipts.record(Receipt(key=uuid4(), provider_id=None, status="sent"))
        receipts.record(Receipt(key=None, provider_id="p", status="sent"))
        ours = message_id(DeliveryId(1), "acme.example", database.secret("mail"))
        reply = mail_of(In_Reply_To=f"{ours} <unknown@example.org>", subject="Re: Order")
        take_mail(world, database).take(reply, smtp())
        back = bounce_address(DeliveryId(1), "acme.example", database.secret("mail"))
        take_mail(world, database).take(bounce_of(back), smtp("", back))
        erasures = mike.operator.erase
        erasures.store.stop(ChannelUserId(7))
        erasures.store.remove(erasures.interventions.take(ChannelUserId(7)).lease, "web")

    plans = plans_of(world, everything)
    database.close()
    indexes = world.database.rows(
        "SELECT c.relname AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE NOT i.indisunique AND c.relnamespace = 'public'::regnamespace"
    )
    unused = {row["name"] for row in indexes} - used_by(plans)
    assert unused <= FOR_PEOPLE
