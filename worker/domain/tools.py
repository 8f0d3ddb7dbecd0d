"""Tools: functions that a model may call, and the result of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from worker.domain.messages import ChannelAddress

MAX_OUTPUT_BYTES = 64 * 1024
"""Longer output is cut: it is part of the model's context in every later turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolConfig:
    """One tool of the agents file: `function` or `url`, never both."""

    name: str
    description: str = ""
    parameters: Mapping[str, object] | None = None
    """JSON Schema of the arguments; None = derived from the signature of `function`."""
    function: str | None = None
    """`module:function`."""
    url: str | None = None
    secret_env: str | None = None
    """Environment variable with the key that signs requests to `url`."""
    secret_file: Path | None = None
    """File with that key."""
    timeout_s: float = 20.0
    honours_key: bool = False
    """A second run under the same key has no effect. Only such a tool is ever run again."""


def tool_item(name: str, description: str, parameters: Mapping[str, object]) -> dict[str, Any]:
    """Return a tool as the model sees it, in the form of the Responses API (a function tool)."""
    about = {"name": name, "description": description, "parameters": dict(parameters)}
    return {"type": "function", **about, "strict": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRequest:
    """One run of a tool."""

    name: str
    arguments: str
    """JSON text as the model wrote it; it may be invalid."""
    key: UUID
    """Idempotency key: the same for every run of one tool call."""
    who: ChannelAddress
    """The channel user whom the turn answers."""
    metadata: Mapping[str, str]
    """The producer's metadata of the turn's newest message."""
    traceparent: str | None = None
    """W3C trace context of this run; None = not traced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """The result of a run. The model gets `output` in all three cases.

    done      it ran
    failed    it did not run, or refused: a later call may repeat it
    unknown   it may have run; it is not run again
    """

    state: Literal["done", "failed", "unknown"]
    output: str
    reason: str | None = None
    """For the log: a few fixed words, none of the model or the tool."""
