"""Reads everything held about one channel user, as JSON that Postgres writes, page by page."""

from collections.abc import Iterator

from worker.domain.errors import NotFoundError
from worker.domain.ids import ChannelUserId
from worker.domain.messages import ChannelAddress
from worker.store.consents import address_hash
from worker.store.database import Store
from worker.store.privacy.erasures import MAILS
from worker.store.rows import address_of
from worker.store.sql import Statement, sql

_PAGE = 200

_USER = sql("""
SELECT one.*, CAST(row_to_json(one) AS text) AS document FROM (
    SELECT id, channel, recipient, address, thread, created_at, paused_at, note,
        service_now() AS exported_at FROM channel_users WHERE id = :user_id) AS one
""")


def _part(
    table: str,
    columns: str,
    place: str = "id",
    *,
    where: str = "t.channel_user_id = :user_id",
    limit: str = ":limit",
) -> tuple[str, Statement]:
    # Pages in the order of an index: an OFFSET would read all earlier rows again for each page.
    return table, sql(f"""
SELECT t.{place} AS place, CAST(row_to_json(one) AS text) AS document
FROM {table} t, LATERAL (SELECT {columns}) AS one
WHERE {where} AND t.{place} > :after ORDER BY t.{place} LIMIT {limit}
""")


_PARTS = (
    _part("conversations", "id, agent, telnyx_conversation_id, opened_at, closed_at, close_reason"),
    _part(
        "messages",
        "id, message_id, agent, envelope, state, outcome, turn_id AS turn, accepted_at,"
        " finished_at, expires_at, redacted_at",
        "seq",
    ),
    _part(
        "turns",
        """id, conversation_id AS conversation, agent, kind, input_text, parts, state, failure,
    opened_at, finished_at, redacted_at,
    (SELECT row_to_json(r) FROM (SELECT text, draft, source, created_at,
        (SELECT row_to_json(d) FROM (SELECT channel, state, attempts, provider_id, provider_status,
            request, receipt, created_at, finished_at
            FROM deliveries WHERE reply_id = replies.id) AS d) AS delivery
        FROM replies WHERE turn_id = t.id) AS r) AS reply,
    (SELECT coalesce(json_agg(c), '[]') FROM (SELECT intent_at, finished_at, state, reason, status,
        response_id, output, input_tokens, output_tokens FROM calls WHERE turn_id = t.id
        ORDER BY id) AS c) AS calls,
    (SELECT coalesce(json_agg(c), '[]') FROM (SELECT name, arguments, output, state, started_at,
        finished_at FROM tool_calls WHERE turn_id = t.id ORDER BY id) AS c) AS tool_calls""",
    ),
    _part("disclosures", "delivery_id AS delivery, language, text, created_at"),
    _part("hand_overs", "id, turn_id AS turn, agent, reason, created_at, ended_at"),
    # When, not who: the names of our staff are theirs.
    _part("audits", "at, action, subject_id AS subject"),
    _part("attempt_log", "at, event, turn_id AS turn, facts"),
    # A few at a time: the channel may keep them raw, and each may have megabytes.
    _part(
        "mails",
        """t.recipient, t.address, t.thread, t.message_id, t.root, t.refs, t.subject, t.reply_to,
    t.from_name, t.smtp_sender, t.smtp_recipient, t.dmarc, t.verdict, t.left_out, t.original,
    encode(t.raw, 'base64') AS raw, t.delivery_id AS delivery, t.created_at, t.redacted_at""",
        where=f"t.id IN {MAILS}",
        limit="least(:limit, 4)",
    ),
    _part(
        "consents",
        "scope, stopped, source, channel, recipient, created_at",
        where="t.address_hash = :address_hash",
    ),
)


class ExportStore(Store):
    """Reads only."""

    def user(self, user_id: ChannelUserId) -> tuple[ChannelAddress, str]:
        """Return the channel user, also as a JSON object. Raises `NotFoundError`."""
        row = self._row(_USER, {"user_id": user_id})
        if row is None:
            raise NotFoundError("there is no such channel user")
        return address_of(row), row.document

    def parts(
        self, user_id: ChannelUserId, scope: str, address: str
    ) -> Iterator[tuple[str, Iterator[str]]]:
        """Yield the name of each part with its JSON objects; `scope`: that of their opt-outs."""
        hashed = address_hash(self._database.consent_key, scope, address)
        values = {"user_id": user_id, "address_hash": hashed, "limit": _PAGE}
        for name, statement in _PARTS:
            yield name, (row.document for row in self._pages(statement, values))
