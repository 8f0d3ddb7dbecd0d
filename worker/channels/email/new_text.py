"""What a person has newly written in a reply: the one place that knows `email-reply-extractor`.

Our own last reply is the parent: whatever is in it is no news. What the library leaves is guarded:

    nothing is left             the whole text counts
    the answers are between     the whole text counts: without the quotes they mean nothing
    the quoted lines
    it is forwarded             the whole text counts: what is forwarded is the question

The original is kept by the caller, and the number of lines that are left out is told to the model.
"""

import re
from dataclasses import dataclass
from typing import Final

from email_reply_extractor import (
    EXTRACTION_VERSION,
    HtmlParts,
    extract_new_text,
    split_html_parts,
    strip_parent_content,
)

from worker.channels.email.html import bounded_html
from worker.channels.email.leftovers import (
    is_attribution,
    is_quoted,
    without_leftovers,
    without_signature,
)
from worker.domain.email.threads import is_forward_subject

VERSION: Final = EXTRACTION_VERSION * 100 + 1
"""Stored with each text: the library's generation, and that of the rules here."""
_MAX_LINES: Final = 1500
_MAX_LINE: Final = 2000
_MAX_PARENT: Final = 16 * 1024
_MAX_REPEATED: Final = 3
_MAX_SIGNS: Final = 8
_MAX_HEADERS: Final = 30
_FROM: Final = re.compile(r"(?:From|发件人)[ \t]?[:\uff1a]")
_DIGIT: Final = re.compile(r"\d")
_ON: Final = re.compile(r"On(?=\s)")
_NO_ON: Final = "O\x01n"
_BACK: Final = str.maketrans({"\x01": None, "\x02": "@", "\x03": "<"})
_HIDDEN: Final = str.maketrans({"@": "\x02", "<": "\x03"})
_WRAPPED: Final = 60
"""Characters of a quoted line whose rest a client may have put on the next one, unquoted."""
_FLAT: Final = 400
_FEW: Final = 4


@dataclass(frozen=True, slots=True)
class NewText:
    """The new text of a mail."""

    text: str
    left_out: int = 0
    """Lines of the original that are not in it; empty lines do not count."""
    how: str = "whole"
    """What decided, for people."""


def new_text(
    plain: str, html: str = "", parent: str = "", *, subject: str = "", quotes: bool = True
) -> NewText:
    """Return what is new. It is never empty unless the mail is. `quotes`: it may have some."""
    parts = split_html_parts(bounded_html(html)) if html.strip() else None
    if parts is not None and (not plain.strip() or _is_flattened(plain, parts.novel_text)):
        own = "\n\n".join(one for one in (parts.novel_text, parts.signature_text) if one)
        whole = f"{own}\n\n{parts.quoted_text}".strip() if not plain.strip() else plain
        body = own
    else:
        whole = body = plain
    lines = body.split("\n")
    if (
        not quotes
        or not whole.strip()
        or len(lines) > _MAX_LINES
        or len(max(lines, key=len)) > _MAX_LINE
    ):
        return NewText(whole.strip())
    if is_forward_subject(subject):
        return NewText(whole.strip(), how="forwarded")
    if _is_interleaved(lines):
        text, how = without_signature(whole), "interleaved"
    else:
        text, how = _without_quotes(body, lines, parent, parts), "extracted"
    if not text.strip():
        return NewText(whole.strip(), how="nothing else")
    left_out = max(0, _count(whole) - _count(text))
    return NewText(text.strip(), left_out, how if left_out else "whole")


def _without_quotes(body: str, lines: list[str], parent: str, parts: HtmlParts | None) -> str:
    result = extract_new_text(_harmless(body), _prepared_parent(parent) or None)
    text = result.text.translate(_BACK)
    if parts is not None and parts.quoted_text.strip():
        shorter = strip_parent_content(text, _prepared_parent(parts.quoted_text))
        # One line or two may be what the author cites.
        text = shorter if _count(text) - _count(shorter) >= _FEW - 1 else text
    return without_leftovers(text, lines)


def _is_flattened(plain: str, novel: str) -> bool:
    """Whether the plain form has lost its lines, and the HTML has them."""
    lines = [line for line in plain.split("\n") if line.strip()]
    return (
        len(lines) < _FEW
        and len(max(lines, key=len)) > _FLAT
        and _count(novel) >= (_FEW - 1) * len(lines)
    )


def _harmless(body: str) -> str:
    """Hide what makes the library's patterns slow, or join sentences of the author.

    One looks for `On … wrote:` over any number of lines, from each `On` of the text. It is meant
    for an attribution, which has a date: every other `On` is hidden, and so is what is quoted.
    """
    lines = [
        f"{line.partition('>')[0]}> x" if is_quoted(line) else line for line in body.split("\n")
    ]
    headers = 0
    for at, line in enumerate(lines):
        near = "\n".join(lines[at : at + 3]).partition("wrote:")
        kept = line.lstrip().startswith("On ") and near[1] and _DIGIT.search(near[0])
        safe = line[:1] + _ON.sub(_NO_ON, line[1:]) if kept else _ON.sub(_NO_ON, line)
        if max(safe.count("@"), safe.count("<")) > _MAX_SIGNS:
            safe = safe.translate(_HIDDEN)
        if _FROM.match(safe.lstrip()):
            headers += 1
            safe = safe if headers <= _MAX_HEADERS else f"\x01{safe}"
        lines[at] = safe
    return "\n".join(lines)


def _prepared_parent(parent: str) -> str:
    """Return the start of a parent; of equal lines only a few: all are compared."""
    seen: dict[str, int] = {}
    kept = []
    for line in parent[:_MAX_PARENT].split("\n"):
        key = line.strip()
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= _MAX_REPEATED:
            kept.append(line)
    return "\n".join(kept)


def _is_interleaved(lines: list[str]) -> bool:
    """Whether there are new lines between quoted ones, or below a quote without attribution."""
    seen = [line for line in lines if line.strip()]
    quoted = [is_quoted(line) for line in seen]
    if True not in quoted:
        return False
    first, last = quoted.index(True), len(quoted) - 1 - quoted[::-1].index(True)
    if first == 0 and last < len(seen) - 1 and not is_quoted(lines[-1]):
        return True
    at = first
    while at < last:
        stop = at
        while not quoted[stop]:
            stop += 1
        between = seen[at:stop]
        rest_of_line = len(between) == 1 and len(seen[at - 1]) >= _WRAPPED
        if between and not rest_of_line and not is_attribution(between):
            return True
        at = stop + 1
    return False


def _count(text: str) -> int:
    return sum(1 for line in text.split("\n") if line.strip())
