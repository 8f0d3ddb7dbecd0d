"""What Telnyx keeps: a conversation and the messages of its log, as read back."""

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
    """Aware UTC; None where Telnyx gave no time that can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadMessage:
    """One line of a conversation's log. Telnyx gives it no id."""

    role: str
    """user, assistant or tool, as far as documented."""
    text: str
    """Empty where Telnyx says null, as it does for tool calls."""
    created_at: datetime | None = None
    """When it was stored."""
    sent_at: datetime | None = None
    """When the person saw or wrote it: the one to sort by, says Telnyx."""
    tool_calls: tuple[ToolCall, ...] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)
