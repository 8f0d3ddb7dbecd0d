"""The fast path's one statement: what it leaves behind, and when it does nothing at all."""

import threading
from datetime import UTC, datetime

import psycopg
import pytest

from tests.support.processes import eventually
from tests.support.world import HandDrivenWorker, World
from worker.domain.messages import NewMessage
from worker.domain.turns.claim import Claimed
from worker.domain.turns.next_step import Send
from worker.domain.turns.records import Snapshot
from worker.handlers.intake.accept import commit
from worker.handlers.intake.route import parse_and_route
from worker.store.turns.open_turn import open_turn

CONFIG = """
[agents.default]
instructions = "Be kind."
max_turns = 3
[channels.web]
idle_reset_s = 3600
reorder_s = 0
[channels.held]
reorder_s = 0.2
[channels.stateless]
persist = false
"""
NAME = "anna@example.org"
TWO_MORE_TURNS = """
INSERT INTO turns (channel_user_id, conversation_id, agent, agent_version, kind, input_text, state)
SELECT channel_user_id, id, agent, '', 'model', '', 'answered'
FROM conversations, generate_series(1, 2)
"""
DUE = "SELECT count(*) FROM channel_users WHERE due_at IS NOT NULL"
TABLES = ("channel_users", "conversations", "turns", "calls", "messages")


def newcomer(world: World, worker: HandDrivenWorker, **fields: object) -> NewMessage:
    fields = {"user": NAME, "channel": "web", **fields}
    document = world.envelope("and then?", **fields)  # type: ignore[arg-type]
    return parse_and_route(document, worker.service.receive.routing())


def start(worker: HandDrivenWorker, message: NewMessage) -> Claimed | None:
    started = worker.service.receive.starts.start(message)
    return None if started is None else started[1]


def everything(world: World) -> list[object]:
    return [world.database.rows(f"SELECT * FROM {table} ORDER BY id") for table in TABLES]


@pytest.fixture
def mike(world: World) -> HandDrivenWorker:
    """A worker that has answered one message."""
    worker = world.worker(CONFIG)
    worker.receive(world.envelope("hello", user=NAME, channel="web"))
    return worker


def test_it_leaves_what_accepting_and_claiming_leave(world: World, mike: HandDrivenWorker) -> None:
    anna = world.worker(CONFIG)
    mike.receive(world.envelope("hello", user="else", channel="web"))
    one = newcomer(world, mike)
    started = start(mike, one)
    assert started is not None
    (message,) = started.step.batch  # type: ignore[union-attr]
    assert message.accepted_at == started.now, "for the time in the queue"
    accepted = commit(
        anna.service.receive.messages,
        newcomer(world, anna, user="else", message_id=one.message_id),
        starts_itself=True,
    )
    anna.service.answer.claims.claim(accepted.user_id)

    expected = {
        "channel_users": "agent, next_seq, waiting_since, waiting_due_at,"
        " taken_until IS NULL AS taken,"
        " woken_at, coalesce(due_at <= service_now(), open_turn_id IS NOT NULL) AS due,"
        " lease_token, lease_until > service_now() AS ok",
        "conversations": "agent, instructions_hash, closed_at",
        "turns": "agent, agent_version, kind, input_text, parts, state, landed",
        "calls": "round, attempt, state, instructions_hash, token",
        "messages": "seq, agent, state, outcome, late, envelope - 'user' - 'message_id' AS body",
    }
    for table, columns in expected.items():
        user = "id" if table == "channel_users" else "channel_user_id"
        by_mike, by_anna = (
            world.database.rows(
                f"SELECT {columns} FROM {table} WHERE {user} ="
                " (SELECT id FROM channel_users WHERE address = %s) ORDER BY id",
                address,
            )
            for address in (NAME, "else")
        )
        assert by_mike == by_anna, table


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE channel_users SET paused_at = service_now()",
        "UPDATE channel_users SET diverged_at = service_now()",
        "UPDATE channel_users SET waiting_since = service_now()",
        "UPDATE channel_users SET open_turn_id = 1",
        "UPDATE channel_users SET lease_owner = (SELECT id FROM workers LIMIT 1)",
        "UPDATE conversations SET closed_at = service_now()",
        "UPDATE conversations SET telnyx_conversation_id = NULL",
        "UPDATE conversations SET owes_outputs = true",
        "UPDATE conversations SET agent = 'another'",
        "UPDATE conversations SET instructions_hash = 'of others'",
        "UPDATE turns SET finished_at = service_now() - interval '1 hour'",
        TWO_MORE_TURNS,
        "INSERT INTO gates SELECT 'account', service_now(), 'x'",
        "INSERT INTO gates SELECT 'agent:default', service_now(), 'x'",
    ],
)
def test_whatever_is_unusual_is_left_to_those_who_look_at_everything(
    world: World, mike: HandDrivenWorker, statement: str
) -> None:
    world.database.run(statement)
    before = everything(world)
    assert start(mike, newcomer(world, mike)) is None
    assert everything(world) == before


def test_so_is_an_unusual_message(world: World, mike: HandDrivenWorker) -> None:
    for channel in ("stateless", "held"):
        mike.receive(world.envelope("hello", user=NAME, channel=channel))
    sent_at = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    known = world.database.value("SELECT min(message_id) FROM messages WHERE id = 1")
    before = everything(world)
    assert start(mike, newcomer(world, mike, expires_at=sent_at)) is None
    assert start(mike, newcomer(world, mike, signals=["opt_out"])) is None
    assert start(mike, newcomer(world, mike, message_id=known)) is None
    new = {"user": "somebody new"}
    assert start(mike, newcomer(world, mike, **new, expires_at=sent_at)) is None
    assert start(mike, newcomer(world, mike, **new, signals=["opt_out"])) is None
    assert start(mike, newcomer(world, mike, channel="stateless")) is None
    assert start(mike, newcomer(world, mike, channel="held", sent_at=sent_at)) is None
    assert everything(world) == before


@pytest.mark.parametrize(
    "limit", ["[agents.default.budget]\nmessages = 9\n", "[limits]\ncalls_per_second = 9\n"]
)
def test_so_is_a_user_who_has_to_be_counted_first(
    world: World, mike: HandDrivenWorker, limit: str
) -> None:
    anna = world.worker(CONFIG + limit)
    assert start(anna, newcomer(world, anna)) is None
    assert start(mike, newcomer(world, mike)) is not None


def test_who_is_late_is_marked_late(world: World, mike: HandDrivenWorker) -> None:
    mike.receive(world.envelope("before", user=NAME, channel="web", sent_at="2026-01-01T00:00:00Z"))
    assert [row["late"] for row in world.messages()] == [False, True]
    assert world.database.value("SELECT max(token) FROM calls") == 2


def test_it_does_nothing_if_the_user_changed_while_it_waited_for_their_row(
    world: World, mike: HandDrivenWorker
) -> None:
    """What it has read of other tables is older than the user's row then."""
    found: list[Claimed | None] = []
    message = newcomer(world, mike)
    with psycopg.connect(world.database.url) as other:
        other.execute("UPDATE channel_users SET lease_token = lease_token + 1")
        other.execute("UPDATE conversations SET instructions_hash = 'of others'")
        thread = threading.Thread(target=lambda: found.append(start(mike, message)))
        thread.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        assert eventually(lambda: world.database.value(waiting) == 1)
        other.commit()
    thread.join()
    assert found == [None]
    commit(mike.service.receive.messages, message, starts_itself=False)
    mike.answer()
    assert world.inputs() == ["hello", "and then?"]


def test_a_user_whose_worker_died_or_never_settled_is_found_by_the_intent(
    world: World, mike: HandDrivenWorker
) -> None:
    anna = world.worker(CONFIG)
    assert start(mike, newcomer(world, mike)) is not None
    assert anna.sweep() == 0
    assert world.database.value(DUE) == 0, "while a worker has the user"
    mine = mike.service.receive.starts._worker_id
    world.database.run("UPDATE workers SET alive_until = service_now() WHERE id = %s", mine)
    assert anna.sweep() == 1
    assert world.database.value(DUE) == 1, "the call is in doubt"
    world.clock.advance(600)
    anna.service.background.workers.beat()
    anna.answer()

    assert start(anna, newcomer(world, anna)) is not None
    assert anna.sweep() == 0
    world.clock.advance(600)
    anna.service.background.workers.beat()
    assert anna.sweep() == 1, "its worker lives, but the lease has ended"
    assert world.database.value("SELECT count(*) FROM calls WHERE state = 'intended'") == 0


def test_a_worker_of_release_0_1_0_finds_the_users_of_this_one(
    world: World, mike: HandDrivenWorker
) -> None:
    assert start(mike, newcomer(world, mike)) is not None
    assert world.database.value(DUE) == 0
    mike.service.background.workers.leave()
    assert world.database.value(DUE) == 1, "others may be the only ones left"

    anna = world.worker(CONFIG)
    world.clock.advance(600)
    anna.service.background.workers.beat()
    anna.answer()
    world.database.run(
        "INSERT INTO workers (id, host, pid, alive_until)"
        " VALUES (gen_random_uuid(), 'old', 1, service_now() + interval '9 s')"
    )
    assert start(anna, newcomer(world, anna)) is not None
    assert world.database.value(DUE) == 1


def test_a_second_turn_cannot_be_opened(world: World, mike: HandDrivenWorker) -> None:
    claimed = start(mike, newcomer(world, mike))
    assert claimed is not None
    assert isinstance(claimed.step, Send)
    seen = Snapshot(
        lease=claimed.lease,
        who=claimed.who,
        now=claimed.now,
        turn=None,
        pending=claimed.step.batch,
        conversation=claimed.conversation,
        gates={},
    )
    claims = mike.service.answer.claims
    before = everything(world)
    with pytest.raises(LookupError), claims._database.transaction() as connection:
        open_turn(connection, seen, claimed.step, claimed.agent, worker_id=claims._worker_id)
    assert everything(world) == before


def updates_that_changed_an_index(world: World, worker: HandDrivenWorker) -> dict[str, int]:
    """By table, once the worker has gone: Postgres counts at the end of its sessions."""
    worker.service.close()
    sessions = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND starts_with(application_name, 'worker')"
    )
    assert eventually(lambda: world.database.value(sessions) == 0)
    rows = world.database.rows(
        "SELECT relname, n_tup_upd - n_tup_hot_upd AS cold FROM pg_stat_user_tables"
    )
    return {row["relname"]: row["cold"] for row in rows}


def test_an_answer_changes_a_row_in_no_index_but_that_of_intents(
    world: World, mike: HandDrivenWorker
) -> None:
    before = updates_that_changed_an_index(world, mike)
    anna = world.worker(CONFIG)
    for _ in range(2):
        anna.receive(world.envelope("and then?", user=NAME, channel="web"))
    after = updates_that_changed_an_index(world, anna)
    changed = {table: after[table] - before[table] for table in after}
    assert {table: number for table, number in changed.items() if number} == {"calls": 2}
