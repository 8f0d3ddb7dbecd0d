"""The results that a model gets: bounded, storable, one wording for each kind of end."""

from typing import Final

from worker.domain.tools import MAX_OUTPUT_BYTES, ToolResult
from worker.envelope.storable import replace_unstorable

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
