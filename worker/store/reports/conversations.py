"""Our side of conversations, for operators and the demo: mappings, their turns. Reads only."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from worker.domain.ids import ChannelUserId, ConversationId, TelnyxConversationId, TurnId
from worker.store.database import Store
from worker.store.sql import sql


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationSummary:
    """One row of `conversations`, without the address; its fields are those of the JSON."""

    id: ConversationId
    user: ChannelUserId
    channel: str
    agent: str
    telnyx_id: TelnyxConversationId | None
    """None = not found or made yet, or given to a later mapping."""
    opened_at: datetime
    closed_at: datetime | None
    why: str | None
    """The reason of its closing."""
    base_user_messages: int
    turns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationTurn:
    """One turn of a conversation, with its reply and calls."""

    id: TurnId
    kind: str
    state: str
    landed: bool | None
    input_text: str
    source: str | None
    delivery: str | None
    calls: Sequence[str]
    """The states of its calls, oldest first."""

    @property
    def is_ours(self) -> bool:
        """Whether our staff wrote it: then the thread has no user item of it."""
        return self.kind == "human" and self.source == "human"

    @property
    def is_redacted(self) -> bool:
        """Whether it is in the thread while retention has removed its text here."""
        return self.landed is True and not self.input_text


@dataclass(frozen=True, slots=True, kw_only=True)
class LandedTurn:
    """A turn whose user item is in Telnyx's log."""

    id: TurnId
    conversation: TelnyxConversationId
    input_text: str
    replies: int
    messages: int


_SUMMARY: Final = """
SELECT c.id, c.channel_user_id AS "user", u.channel, c.agent, c.telnyx_conversation_id AS telnyx_id,
    c.opened_at, c.closed_at, c.close_reason AS why, c.base_user_messages,
    (SELECT count(*) FROM turns WHERE conversation_id = c.id) AS turns
FROM conversations c JOIN channel_users u ON u.id = c.channel_user_id
"""
_FIND: Final = sql(f"""{_SUMMARY}
WHERE (CAST(:user_id AS bigint) IS NULL OR c.channel_user_id = :user_id)
  AND (CAST(:channel AS text) IS NULL OR u.channel = :channel)
  AND (CAST(:agent AS text) IS NULL OR c.agent = :agent)
  AND (:closed OR c.closed_at IS NULL)
ORDER BY c.id DESC LIMIT :limit
""")
_GET: Final = sql(f"{_SUMMARY} WHERE c.telnyx_conversation_id = :telnyx_id")
_TURNS: Final = sql("""
SELECT t.id, t.kind, t.state, t.landed, t.input_text, r.source, d.state AS delivery,
    ARRAY(SELECT state FROM calls WHERE turn_id = t.id ORDER BY id) AS calls
FROM turns t LEFT JOIN replies r ON r.turn_id = t.id LEFT JOIN deliveries d ON d.reply_id = r.id
WHERE t.conversation_id = :conversation ORDER BY t.id
""")
_LANDED: Final = sql("""
SELECT t.id, c.telnyx_conversation_id AS conversation, t.input_text,
    (SELECT count(*) FROM replies WHERE turn_id = t.id) AS replies,
    (SELECT count(*) FROM messages WHERE turn_id = t.id) AS messages
FROM turns t JOIN conversations c ON c.id = t.conversation_id
WHERE t.landed
  AND c.id IN (SELECT conversation_id FROM turns WHERE id = ANY(CAST(:turns AS bigint[])))
ORDER BY t.id
""")


class ConversationReports(Store):
    """Conversations and their turns."""

    def find(
        self,
        *,
        user_id: ChannelUserId | None = None,
        channel: str | None = None,
        agent: str | None = None,
        closed: bool = False,
        limit: int = 100,
    ) -> tuple[ConversationSummary, ...]:
        """Return conversations, the newest first. `closed`: also those that are closed."""
        values = {"user_id": user_id, "channel": channel, "agent": agent}
        return self._found(ConversationSummary, _FIND, values | {"closed": closed, "limit": limit})

    def get(self, telnyx_id: TelnyxConversationId) -> ConversationSummary | None:
        """Return the conversation that a Telnyx conversation is mapped to."""
        return next(iter(self._found(ConversationSummary, _GET, {"telnyx_id": telnyx_id})), None)

    def turns(self, conversation: ConversationId) -> Sequence[ConversationTurn]:
        """Return the turns of a conversation, in the order they were opened."""
        return self._found(ConversationTurn, _TURNS, {"conversation": conversation})

    def landed_beside(self, turns: Collection[int]) -> Sequence[LandedTurn]:
        """Return all landed turns of the conversations that these turns belong to, in order."""
        return self._found(LandedTurn, _LANDED, {"turns": list(turns)})
