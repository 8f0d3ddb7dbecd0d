"""Fills tables with old messages and all the rows that belong to them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

# All turns of user k have ids k, k + users, k + 2 * users: spread over the table, as in production.
_USERS = """
INSERT INTO channel_users (channel, address, next_seq, taken_until, due_at)
SELECT 'web', 'u' || n, %(each)s + 1, service_now() - interval '1 hour',
    CASE WHEN n %% 2 = 1 AND %(waiting)s THEN service_now() + interval '1 day' END
FROM generate_series(0, %(users)s - 1) n
ON CONFLICT (channel, recipient, address, thread) DO UPDATE
    SET next_seq = excluded.next_seq, taken_until = excluded.taken_until;
"""
_CONVERSATIONS = """
INSERT INTO conversations (channel_user_id, agent, telnyx_conversation_id, opened_at)
SELECT id, 'default', gen_random_uuid(), service_now() - interval '90 days' FROM channel_users
ON CONFLICT (channel_user_id, agent) WHERE closed_at IS NULL DO NOTHING;
"""
_OLD = """
CREATE UNLOGGED TABLE old AS
SELECT row_number() OVER (ORDER BY round, u.id) AS n, u.id AS user_id, c.id AS conversation_id,
    round + 1 AS seq,
    service_now() - interval '90 days' + round * interval '90 days' / %(each)s AS at
FROM channel_users u JOIN conversations c ON c.channel_user_id = u.id AND c.closed_at IS NULL,
    generate_series(0, %(each)s - 1) round
WHERE u.address = ANY(SELECT 'u' || n FROM generate_series(0, %(users)s - 1) n);
"""
_TURNS = """
INSERT INTO turns (id, channel_user_id, conversation_id, agent, agent_version, input_text, state,
    landed, opened_at, finished_at) OVERRIDING SYSTEM VALUE
SELECT n, user_id, conversation_id, 'default', 'v', repeat('words of long ago ', 8), 'answered',
    true, at, at + interval '3 seconds' FROM old ORDER BY n;
"""
_CALLS = """
INSERT INTO calls (channel_user_id, turn_id, conversation_id, token, intent_at, finished_at, state,
    status, output, input_tokens, output_tokens)
SELECT user_id, n, conversation_id, seq, at, at + interval '3 seconds', 'done', 200,
    jsonb_build_array(jsonb_build_object('type', 'message', 'text', repeat('an answer ', 12))),
    100, 50
FROM old ORDER BY n;
"""
_MESSAGES = """
INSERT INTO messages (channel_user_id, message_id, seq, order_at, agent, envelope, state, outcome,
    turn_id, accepted_at, finished_at)
SELECT user_id, 'old-' || n, seq, at, 'default',
    jsonb_build_object('version', 1, 'channel', 'web', 'user', user_id, 'message_id', 'old-' || n,
        'text', repeat('words of long ago ', 8)),
    'answered', 'answered', n, at, at + interval '3 seconds' FROM old ORDER BY n;
"""
_REPLIES = """
INSERT INTO replies (id, turn_id, text, source, created_at) OVERRIDING SYSTEM VALUE
SELECT n, n, repeat('an answer ', 12), 'call', at + interval '3 seconds' FROM old ORDER BY n;
"""
_DELIVERIES = """
INSERT INTO deliveries (reply_id, channel_user_id, channel, state, attempts, created_at,
    finished_at)
SELECT n, user_id, 'web', 'sent', 1, at + interval '3 seconds', at + interval '3 seconds'
FROM old ORDER BY n;
"""
_RARE = (
    """
    INSERT INTO tool_calls (turn_id, call_id, name, arguments, output, state, started_at,
        finished_at, answered_at)
    SELECT n, 'call_' || n, 'look_up', '{}', 'found', 'done', at, at, at FROM old WHERE n % 10 = 0
    """,
    """
    INSERT INTO dead_letters (kind, message_row_id, reason, created_at, resolution, resolved_at)
    SELECT 'message', id, 'refused', accepted_at, 'dismissed', accepted_at
    FROM messages WHERE id % 10 = 0
    """,
    """
    INSERT INTO attempt_log (at, event, channel_user_id, turn_id)
    SELECT at, 'conversation.replaced', user_id, n FROM old WHERE n % 100 = 0
    """,
)
_IDS = """
SELECT setval(pg_get_serial_sequence('turns', 'id'), (SELECT max(id) FROM turns)),
    setval(pg_get_serial_sequence('replies', 'id'), (SELECT max(id) FROM replies));
"""


_SIDE_BY_SIDE = ((_TURNS, _REPLIES, _DELIVERIES), (_MESSAGES, _CALLS))
"""One connection each, of about equal duration."""


def fill(
    connection: psycopg.Connection[Any], *, users: int, each: int, waiting: bool = False
) -> None:
    """Insert `each` answered messages for each user u0, u1, …, one turn each; then vacuum.

    `waiting`: half of the users are due tomorrow. The tables hold no messages yet; the connection
    commits by itself. Foreign keys are not checked while it runs: the rows are consistent.
    """
    values = {"users": users, "each": each, "waiting": waiting}
    with connection.transaction():
        for statement in (_USERS, _CONVERSATIONS, _OLD):
            connection.execute(statement, values)
    with ThreadPoolExecutor() as threads:
        for done in [threads.submit(_insert, connection.info.dsn, some) for some in _SIDE_BY_SIDE]:
            done.result()
    _insert(connection.info.dsn, (*_RARE, _IDS, "DROP TABLE old"))
    connection.execute("VACUUM ANALYZE")
    connection.execute("CHECKPOINT")


def _insert(database: str, statements: Sequence[str]) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("SET LOCAL synchronous_commit = off")
        for statement in statements:
            connection.execute(statement.encode())
