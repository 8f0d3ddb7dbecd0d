"""Our side of conversations, for operators and the demo: mappings, their turns. Reads only."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import func, select

from worker.domain.ids import ChannelUserId, ConversationId, TelnyxConversationId, TurnId
from worker.store.schema.turns import Call, Conversation, Delivery, Reply, Turn
from worker.store.schema.users import ChannelUser, Message
from worker.store.selects import Reader, select_as


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


_SUMMARIES: Final = select_as(
    ConversationSummary,
    Conversation,
    ChannelUser,
    user=Conversation.channel_user_id,
    telnyx_id=Conversation.telnyx_conversation_id,
    why=Conversation.close_reason,
    turns=select(func.count()).where(Turn.conversation_id == Conversation.id).scalar_subquery(),
).join(ChannelUser, ChannelUser.id == Conversation.channel_user_id)
_TURNS: Final = (
    select_as(
        ConversationTurn,
        Turn,
        Reply,
        delivery=Delivery.state,
        calls=func.array(
            select(Call.state).where(Call.turn_id == Turn.id).order_by(Call.id).scalar_subquery()
        ),
    )
    .outerjoin(Reply, Reply.turn_id == Turn.id)
    .outerjoin(Delivery, Delivery.reply_id == Reply.id)
    .order_by(Turn.id)
)
_LANDED: Final = (
    select_as(
        LandedTurn,
        Turn,
        conversation=Conversation.telnyx_conversation_id,
        replies=select(func.count()).where(Reply.turn_id == Turn.id).scalar_subquery(),
        messages=select(func.count()).where(Message.turn_id == Turn.id).scalar_subquery(),
    )
    .join(Conversation, Conversation.id == Turn.conversation_id)
    .where(Turn.landed.is_(True))
    .order_by(Turn.id)
)


class ConversationReports(Reader):
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
        wanted = (
            (Conversation.channel_user_id, user_id),
            (ChannelUser.channel, channel),
            (Conversation.agent, agent),
        )
        asked = _SUMMARIES.where(*(column == one for column, one in wanted if one is not None))
        if not closed:
            asked = asked.where(Conversation.closed_at.is_(None))
        asked = asked.order_by(Conversation.id.desc()).limit(limit)
        return self._fetch(ConversationSummary, asked)

    def get(self, telnyx_id: TelnyxConversationId) -> ConversationSummary | None:
        """Return the conversation that a Telnyx conversation is mapped to."""
        asked = _SUMMARIES.where(Conversation.telnyx_conversation_id == telnyx_id)
        return next(iter(self._fetch(ConversationSummary, asked)), None)

    def turns(self, conversation: ConversationId) -> Sequence[ConversationTurn]:
        """Return the turns of a conversation, in the order they were opened."""
        asked = _TURNS.where(Turn.conversation_id == conversation)
        return self._fetch(ConversationTurn, asked)

    def landed_beside(self, turns: Collection[int]) -> Sequence[LandedTurn]:
        """Return all landed turns of the conversations that these turns belong to, in order."""
        # `correlate(None)`: or its `turns` would be those of the query around it.
        theirs = select(Turn.conversation_id).where(Turn.id.in_(turns)).correlate(None)
        return self._fetch(LandedTurn, _LANDED.where(Conversation.id.in_(theirs)))
