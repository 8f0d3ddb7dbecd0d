"""What the simulator keeps: conversations and the messages of their threads, as frozen values."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

Json: TypeAlias = dict[str, Any]
"""A JSON object whose shape its readers check."""

Origin: TypeAlias = Literal["input", "output", "reasoning", "instructions", "added", "foreign"]
"""How a message came into a thread: by a response's input or output, as the model's reasoning, as
instructions, by `POST .../message`, or from nowhere (a fault)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A function the model wants called. `arguments` is JSON text, perhaps not even valid."""

    id: str
    name: str
    arguments: str

    def listed(self) -> Json:
        """As Telnyx lists it."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What somebody said, before it has a place in a thread."""

    role: str
    text: str | None
    """None for an assistant message that only calls tools, and for listed reasoning."""
    origin: Origin = "input"
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    """Of a tool's output: the call that it answers."""
    metadata: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(Draft):
    """One message of a thread. `created_at` grows strictly within a thread."""

    created_at: datetime
    sent_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A Telnyx conversation without its messages."""

    id: str
    created_at: datetime
    last_message_at: datetime
    metadata: dict[str, str] = field(default_factory=dict)
    name: str = ""

    def listed(self) -> Json:
        """As Telnyx shows it."""
        return {
            "id": self.id,
            "created_at": timestamp(self.created_at),
            "last_message_at": timestamp(self.last_message_at),
            "metadata": dict(self.metadata),
            "name": self.name,
        }


def timestamp(moment: datetime, digits: int = 6) -> str:
    """ISO 8601 in UTC with `Z`; `digits` of the second's fraction are kept, 0 for none."""
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.%f")
    return (text[: 20 + digits] if digits else text[:19]) + "Z"


def prefix_hash(messages: Iterable[Draft]) -> str:
    """Name a history in twelve hex digits: the oracle of which thread a reply saw.

    A reply carries the hash of all messages before its output, its own input included. Instructions
    and reasoning do not count, because whether Telnyx lists them is not known.
    """
    heads = [
        [said.role, said.text, [[call.name, call.arguments] for call in said.tool_calls]]
        for said in messages
        if said.origin not in {"instructions", "reasoning"}
    ]
    return hashlib.sha256(json.dumps(heads).encode()).hexdigest()[:12]
