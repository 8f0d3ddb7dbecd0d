"""The fast path's one statement: what it leaves behind, and when it does nothing at all."""

import threading
from datetime import UTC, datetime

import psycopg
import pytest

from tests.support.processes import eventually
from tests.support.world import HandDrivenWorker, World
from worker.domain.messages import NewMessage
from worker.domain.turns.claim import Claimed
from worker.handlers.intake.accept import commit
from worker.handlers.intake.route import parse_and_route

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
        " woken_at, due_at <= service_now() AS due, lease_token, lease_until > service_now() AS ok",
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
def test_so_is_whoever_has_to_be_counted_first(
    world: World, mike: HandDrivenWorker, limit: str
) -> None:
    anna = world.worker(CONFIG + limit)
    assert start(anna, newcomer(world, anna)) is None
    assert start(mike, newcomer(world, mike)) is not None


def test_who_is_late_is_marked_late(world: World, mike: HandDrivenWorker) -> None:
    mike.receive(world.envelope("before", user=NAME, channel="web", sent_at="2026-01-01T00:00:00Z"))
    assert [row["late"] for row in world.messages()] == [False, True]
    assert world.database.value("SELECT max(token) FROM calls") == 2


def test_it_does_nothing_where_the_user_changed_while_it_waited_for_his_row(
    world: World, mike: HandDrivenWorker
) -> None:
    """What it has read of other tables is older than his row then."""
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
