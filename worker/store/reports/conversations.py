"""Our side of conversations, as operators read it: mappings and their turns. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.domain.ids import ChannelUserId, ConversationId, TelnyxConversationId, TurnId
from worker.store.database import Database
from worker.store.sql import Row, sql

_SELECT = """
SELECT c.id, c.channel_user_id, u.channel, c.agent, c.telnyx_conversation_id,
    c.base_user_messages, c.opened_at, c.closed_at, c.close_reason,
    (SELECT count(*) FROM turns t WHERE t.conversation_id = c.id) AS turns
FROM conversations c JOIN channel_users u ON u.id = c.channel_user_id
"""
_LIST = sql(
    _SELECT
    + """
WHERE (CAST(:user_id AS bigint) IS NULL OR c.channel_user_id = :user_id)
  AND (CAST(:channel AS text) IS NULL OR u.channel = :channel)
  AND (CAST(:agent AS text) IS NULL OR c.agent = :agent)
  AND (:closed OR c.closed_at IS NULL)
ORDER BY c.id DESC LIMIT :limit"""
)
_GET = sql(_SELECT + " WHERE c.telnyx_conversation_id = :telnyx_id")
_TURNS = sql("""
SELECT t.id, t.kind, t.state, t.landed, t.failure, t.input_text, t.opened_at,
    r.text AS reply, r.source, d.state AS delivery,
    ARRAY(SELECT c.state FROM calls c WHERE c.turn_id = t.id ORDER BY c.id) AS calls
FROM turns t
LEFT JOIN replies r ON r.turn_id = t.id
LEFT JOIN deliveries d ON d.reply_id = r.id
WHERE t.conversation_id = :conversation_id ORDER BY t.id
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationSummary:
    """One row of `conversations`, without who it is."""

    id: ConversationId
    user_id: ChannelUserId
    channel: str
    agent: str
    telnyx_id: TelnyxConversationId | None
    """None = not found or made yet, or given to a later mapping."""
    base_user_messages: int
    opened_at: datetime
    closed_at: datetime | None
    close_reason: str | None
    turns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationTurn:
    """One turn of a conversation, and what came of it."""

    id: TurnId
    kind: str
    state: str
    landed: bool | None
    failure: str | None
    input_text: str
    opened_at: datetime
    reply: str | None
    source: str | None
    delivery: str | None
    calls: tuple[str, ...]
    """The states of its calls, oldest first."""

    @property
    def is_ours(self) -> bool:
        """Whether one of our people said it: it is no user item of the thread."""
        return self.kind == "human" and self.source == "human"

    @property
    def is_redacted(self) -> bool:
        """Whether it is in the thread, and retention has taken its words out here."""
        return self.landed is True and not self.input_text


class ConversationReports:
    """Mappings and turns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(
        self,
        *,
        user_id: ChannelUserId | None = None,
        channel: str | None = None,
        agent: str | None = None,
        closed: bool = False,
        limit: int = 100,
    ) -> tuple[ConversationSummary, ...]:
        """Give mappings, the newest first. `closed`: also those that are closed."""
        values = {
            "user_id": user_id,
            "channel": channel,
            "agent": agent,
            "closed": closed,
            "limit": limit,
        }
        with self._database.statement() as connection:
            return tuple(_mapping(row) for row in connection.execute(_LIST, values))

    def get(self, telnyx_id: TelnyxConversationId) -> ConversationSummary | None:
        """Give the mapping that has a Telnyx conversation."""
        with self._database.statement() as connection:
            row = connection.execute(_GET, {"telnyx_id": telnyx_id}).one_or_none()
        return None if row is None else _mapping(row)

    def turns(self, conversation: ConversationId) -> Sequence[ConversationTurn]:
        """Give the turns of a mapping, in the order they were opened."""
        with self._database.statement() as connection:
            return [
                ConversationTurn(
                    id=TurnId(row.id),
                    kind=row.kind,
                    state=row.state,
                    landed=row.landed,
                    failure=row.failure,
                    input_text=row.input_text,
                    opened_at=row.opened_at,
                    reply=row.reply,
                    source=row.source,
                    delivery=row.delivery,
                    calls=tuple(row.calls),
                )
                for row in connection.execute(_TURNS, {"conversation_id": conversation})
            ]


def _mapping(row: Row) -> ConversationSummary:
    remote = row.telnyx_conversation_id
    return ConversationSummary(
        id=ConversationId(row.id),
        user_id=ChannelUserId(row.channel_user_id),
        channel=row.channel,
        agent=row.agent,
        telnyx_id=None if remote is None else TelnyxConversationId(remote),
        base_user_messages=row.base_user_messages,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        close_reason=row.close_reason,
        turns=row.turns,
    )
