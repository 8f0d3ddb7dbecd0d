"""The interface of a tool: its description for the model, and one method."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from message_worker_client.envelope.storable import replace_unstorable
from worker.domain.tools import MAX_OUTPUT_BYTES, ToolRequest, ToolResult


class Tool(Protocol):
    """A function that a model may ask for. One instance serves all threads."""

    @property
    def item(self) -> Mapping[str, Any]:
        """The description that the model gets."""

    @property
    def takes_key(self) -> bool:
        """Whether a repetition under the same key does nothing; else it is run at most once."""

    def run(self, request: ToolRequest) -> ToolResult:
        """Run it within its `timeout_s`; never raises for the model, the tool or the network."""


_CUT: Final = "\n[cut: the output was longer]"

BAD_ARGUMENTS: Final = "invalid arguments"
"""The reason of a call whose arguments did not fit."""


def done(text: str, *, cut: bool = False, reason: str | None = None) -> ToolResult:
    """Return the result of a tool that ran. `cut`: there was more than `text`."""
    return ToolResult(state="done", output=storable(text, cut=cut), reason=reason)


def failed(text: str, *, reason: str) -> ToolResult:
    """Return the result of a tool that did not run, or refused."""
    return ToolResult(state="failed", output=storable(text), reason=reason)


def unknown(*, reason: str) -> ToolResult:
    """Return the result of a tool that may have run."""
    # Models otherwise report a success or a failure that nobody knows of.
    text = (
        "error: the tool gave no clear answer in time. What it was asked for may or may not have"
        " happened. Do not say that it has, nor that it has not."
    )
    return ToolResult(state="unknown", output=text, reason=reason)


def storable(text: str, *, cut: bool = False) -> str:
    """Remove characters that Postgres cannot store (NUL, lone surrogates); cut to the limit."""
    raw = replace_unstorable(text, "").encode()
    if len(raw) <= MAX_OUTPUT_BYTES and not cut:
        return raw.decode()
    return raw[: MAX_OUTPUT_BYTES - len(_CUT)].decode("utf-8", "ignore") + _CUT
