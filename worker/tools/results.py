"""What the model is told: bounded, storable, and the same words for the same end."""

from typing import Final

from worker.domain.tools import MAX_OUTPUT_BYTES, ToolResult
from worker.envelope.storable import replace_unstorable

_CUT: Final = "\n[cut: the output was longer]"

BAD_ARGUMENTS: Final = "invalid arguments"
"""The reason of a call whose arguments did not fit."""


def done(text: str, *, cut: bool = False, reason: str | None = None) -> ToolResult:
    """Say that it ran. `cut`: there was more than `text`."""
    return ToolResult(state="done", output=storable(text, cut=cut), reason=reason)


def failed(text: str, *, reason: str) -> ToolResult:
    """Say that it did not run, or refused."""
    return ToolResult(state="failed", output=storable(text), reason=reason)


def unknown(*, reason: str) -> ToolResult:
    """Say that it may have run."""
    text = (
        "error: the tool gave no clear answer in time. What it was asked for may or may not have"
        " happened. Do not say that it has, nor that it has not."
    )
    return ToolResult(state="unknown", output=text, reason=reason)


def storable(text: str, *, cut: bool = False) -> str:
    """Take out what Postgres cannot store (NUL, lone surrogates), and cut to MAX_OUTPUT_BYTES."""
    raw = replace_unstorable(text, "").encode()
    if len(raw) <= MAX_OUTPUT_BYTES and not cut:
        return raw.decode()
    return raw[: MAX_OUTPUT_BYTES - len(_CUT)].decode("utf-8", "ignore") + _CUT
