"""Tools: functions that a model may ask for, and what came of running one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import UUID

from worker.domain.messages import ChannelAddress

MAX_OUTPUT_BYTES = 64 * 1024
"""What a tool gives beyond that is cut: it goes into the model's context with every later turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolConfig:
    """One tool of the agents file: `function` or `url`, never both."""

    name: str
    description: str = ""
    parameters: Mapping[str, object] | None = None
    """JSON Schema of the arguments; None = derived from the function's signature."""
    function: str | None = None
    """`module:function`."""
    url: str | None = None
    secret_env: str | None = None
    """The environment variable with the key that requests to `url` are signed with."""
    secret_file: Path | None = None
    """The same in a file."""
    timeout_s: float = 20.0
    honours_key: bool = False
    """Whether a repetition under the same key does nothing: only then is it ever repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """What the model is told of a tool."""

    name: str
    description: str
    parameters: Mapping[str, object]

    def as_item(self) -> dict[str, object]:
        """Give it as the Responses API takes it (OpenAI's shape of a function tool)."""
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
            "strict": False,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRequest:
    """One run of a tool."""

    name: str
    arguments: str
    """JSON text as the model wrote it, perhaps not even valid."""
    key: UUID
    """The idempotency key: the same for every run of the same call of the model."""
    who: ChannelAddress
    """Whom the turn answers."""
    metadata: Mapping[str, str]
    """Of the newest message of the turn, as its producer sent it."""
    traceparent: str | None = None
    """Of this run, as W3C has it; None = it is not traced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What came of it. `output` is what the model is told, in all three cases.

    done      it ran
    failed    it did not, or said no: nothing happened that a later call could not repeat
    unknown   it may have happened; it is not run again
    """

    state: Literal["done", "failed", "unknown"]
    output: str
    reason: str | None = None
    """For the log: a few words without anything that model or tool said."""
