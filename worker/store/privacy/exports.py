"""Reads everything held about one channel user, as JSON that Postgres writes, page by page."""

from collections.abc import Iterator

from worker.domain.ids import ChannelUserId
from worker.store.database import Database
from worker.store.sql import Statement, sql

_PAGE = 200

_USER = sql("""
SELECT CAST(json_build_object('id', id, 'channel', channel, 'recipient', recipient,
    'address', address, 'thread', thread, 'created_at', created_at, 'paused_at', paused_at,
    'exported_at', service_now()) AS text)
FROM channel_users WHERE id = :user_id
""")
# Pages in the order of an index: an OFFSET would read all earlier rows again for each page.
_PARTS = {
    "conversations": sql("""
SELECT id AS place, CAST(json_build_object('id', id, 'agent', agent,
    'telnyx_conversation_id', telnyx_conversation_id, 'opened_at', opened_at,
    'closed_at', closed_at, 'close_reason', close_reason) AS text) AS document
FROM conversations WHERE channel_user_id = :user_id AND id > :after ORDER BY id LIMIT :limit
"""),
    "messages": sql("""
SELECT seq AS place, CAST(json_build_object('id', id, 'message_id', message_id, 'agent', agent,
    'envelope', envelope, 'state', state, 'outcome', outcome, 'turn', turn_id,
    'accepted_at', accepted_at, 'finished_at', finished_at, 'expires_at', expires_at,
    'redacted_at', redacted_at) AS text) AS document
FROM messages WHERE channel_user_id = :user_id AND seq > :after ORDER BY seq LIMIT :limit
"""),
    "turns": sql("""
SELECT t.id AS place, CAST(json_build_object('id', t.id, 'conversation', t.conversation_id,
    'agent', t.agent, 'kind', t.kind, 'input_text', t.input_text, 'parts', t.parts,
    'state', t.state, 'failure', t.failure, 'opened_at', t.opened_at,
    'finished_at', t.finished_at, 'redacted_at', t.redacted_at,
    'reply', (SELECT json_build_object('text', r.text, 'source', r.source,
            'created_at', r.created_at, 'delivery', (SELECT json_build_object(
                'channel', d.channel, 'state', d.state, 'attempts', d.attempts,
                'provider_id', d.provider_id, 'provider_status', d.provider_status,
                'created_at', d.created_at, 'finished_at', d.finished_at)
                FROM deliveries d WHERE d.reply_id = r.id))
        FROM replies r WHERE r.turn_id = t.id),
    'calls', (SELECT coalesce(json_agg(json_build_object('intent_at', c.intent_at,
            'finished_at', c.finished_at, 'state', c.state, 'reason', c.reason,
            'status', c.status, 'response_id', c.response_id, 'output', c.output,
            'input_tokens', c.input_tokens, 'output_tokens', c.output_tokens) ORDER BY c.id), '[]')
        FROM calls c WHERE c.turn_id = t.id),
    'tool_calls', (SELECT coalesce(json_agg(json_build_object('name', c.name,
            'arguments', c.arguments, 'output', c.output, 'state', c.state,
            'started_at', c.started_at, 'finished_at', c.finished_at) ORDER BY c.id), '[]')
        FROM tool_calls c WHERE c.turn_id = t.id)) AS text) AS document
FROM turns t WHERE t.channel_user_id = :user_id AND t.id > :after ORDER BY t.id LIMIT :limit
"""),
    "attempt_log": sql("""
SELECT id AS place, CAST(json_build_object('at', at, 'event', event, 'turn', turn_id,
    'facts', facts) AS text) AS document
FROM attempt_log WHERE channel_user_id = :user_id AND id > :after ORDER BY id LIMIT :limit
"""),
}


class ExportStore:
    """Reads only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def user(self, user_id: ChannelUserId) -> str | None:
        """Return the channel user as a JSON object; None = there is none."""
        with self._database.statement() as connection:
            found = connection.execute(_USER, {"user_id": user_id}).one_or_none()
        return None if found is None else str(found[0])

    def parts(self, user_id: ChannelUserId) -> Iterator[tuple[str, Iterator[str]]]:
        """Yield the name of each part with its JSON objects."""
        for name, statement in _PARTS.items():
            yield name, self._pages(statement, user_id)

    def _pages(self, statement: Statement, user_id: ChannelUserId) -> Iterator[str]:
        after = 0
        while True:
            values = {"user_id": user_id, "after": after, "limit": _PAGE}
            with self._database.statement() as connection:
                rows = connection.execute(statement, values).fetchall()
            for row in rows:
                yield row.document
            if len(rows) < _PAGE:
                return
            after = rows[-1].place
