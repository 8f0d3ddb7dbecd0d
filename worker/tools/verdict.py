"""What an endpoint's answer, or its silence, says about whether the tool ran.

    2xx                                     done
    301 307 308, any other 4xx              failed: it said no
    408 425 429, silence before a byte      no verdict yet; nothing has happened
    5xx, other 3xx, silence after a byte    no verdict yet; it may have happened
    409 where the tool honours its key      the same: that key is still at work over there

A tool that does not honour its key is asked once: what is open then stays open.
"""

import codecs
import json
from dataclasses import dataclass
from typing import assert_never

from worker.domain.tools import MAX_OUTPUT_BYTES, ToolResult
from worker.net.post_once import Answer, Silence, seconds_of
from worker.tools.results import done, failed

_MOVED = frozenset({301, 307, 308})  # 302 and 303 may answer a POST that was carried out
_LATER = frozenset({408, 425, 429})
_CONFLICT = 409


@dataclass(frozen=True, slots=True, kw_only=True)
class NoVerdict:
    """Nothing is known yet; a repetition under the same key may tell."""

    reason: str
    may_have_happened: bool
    wait_s: float = 0.0
    """The other side asked for so long a pause."""


def judge(outcome: Answer | Silence, *, takes_key: bool) -> ToolResult | NoVerdict:
    """Decide what one try came to."""
    match outcome:
        case Silence():
            return NoVerdict(reason=outcome.reason, may_have_happened=outcome.wrote)
        case Answer():
            return _judge_answer(outcome, takes_key=takes_key)
        case _:
            assert_never(outcome)


def _judge_answer(answer: Answer, *, takes_key: bool) -> ToolResult | NoVerdict:
    status = answer.status
    if 200 <= status < 300:  # noqa: PLR2004 every 2xx
        cut = len(answer.body) > MAX_OUTPUT_BYTES
        text = _text_of(answer.body, cut=cut)
        if text is None:
            return done(
                "The tool ran. Its answer is not text and cannot be shown.", reason="not UTF-8"
            )
        return done(text, cut=cut)
    reason = f"status {status}"
    unfinished = takes_key and status == _CONFLICT
    if status in _LATER or unfinished:
        wait_s = seconds_of(answer.retry_after)
        return NoVerdict(reason=reason, may_have_happened=unfinished, wait_s=wait_s)
    if status in _MOVED or 400 <= status < 500:  # noqa: PLR2004 every other 4xx
        said = _error_of(answer.body)
        return failed(f"error: the tool refused: {reason}{said and f': {said}'}", reason=reason)
    return NoVerdict(reason=reason, may_have_happened=True, wait_s=seconds_of(answer.retry_after))


def _text_of(body: bytes, *, cut: bool) -> str | None:
    """Decode; half a character at the end of a cut body is left out."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(body, final=not cut)
    except UnicodeDecodeError:
        return None


def _error_of(body: bytes) -> str:
    """Give the text under `error` in a JSON body, else nothing."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    said = document.get("error") if isinstance(document, dict) else None
    return said if isinstance(said, str) else ""
