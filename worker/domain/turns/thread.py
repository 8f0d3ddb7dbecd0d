"""A conversation at Telnyx and the messages of its log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from worker.domain.ids import TelnyxConversationId
from worker.domain.turns.calls import ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One conversation at Telnyx."""

    id: TelnyxConversationId
    metadata: Mapping[str, str]
    """Ours and Telnyx's own keys together."""
    created_at: datetime | None = None
    """Aware UTC; None if Telnyx sent no readable time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadMessage:
    """One message of a conversation's log. It has no id at Telnyx."""

    role: str
    """user, assistant or tool, as far as documented."""
    text: str
    """Empty if Telnyx sends null, as it does for tool calls."""
    created_at: datetime | None = None
    """When it was stored."""
    sent_at: datetime | None = None
    """When the person saw or wrote it. Sort by it, as Telnyx documents."""
    tool_calls: tuple[ToolCall, ...] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)
