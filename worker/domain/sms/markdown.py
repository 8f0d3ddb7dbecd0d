"""Markdown, as models write it, to plain text. Unknown constructs stay as they are."""

import re
from typing import Final

_URL: Final = r"(?:https?://|www\.)[^\s<>()\[\]|]+"
_INLINE: Final = re.compile(
    # A link or picture: text, address, perhaps a title.
    r"!?\[(?P<text>[^\[\]\n]{0,500})\]\([ ]?<?(?P<url>(?:[^\s<>()]|\([^\s<>()]{0,500}\)){0,2000})>?"
    r"(?:[ ](?:\"[^\"\n]{0,500}\"|'[^'\n]{0,500}'))?[ ]?\)"
    r"|<(?P<auto>https?://[^\s<>]+|[^\s<>@]+@[^\s<>@]+)>"
    rf"|(?P<bare>{_URL})"
    r"|(?P<tick>`{1,2})(?P<code>[^`\n]{1,500})(?P=tick)"
    # Not inside a word: 2*3*4 and snake_case_name are no emphasis.
    r"|(?<![A-Za-z0-9_*~])(?P<mark>\*{1,3}|_{1,3}|~~)(?=\S)"
    r"(?P<inner>[^\n]{1,500}?)(?<=\S)(?P=mark)(?![A-Za-z0-9_*~])"
    r"|\\(?P<escaped>[\\`*_{}\[\]()#+\-.!|~>])"
)
_FENCE: Final = re.compile(r"^[ ]*(?:```|~~~)[^\n`]*$\n?", re.MULTILINE)
_BREAK: Final = re.compile(r"<br[ ]{0,3}/?>[ ]*", re.IGNORECASE)
_PREFIX: Final = re.compile(r"^(?:[ ]*>)+[ ]?|^[ ]*#{1,6}[ ]+", re.MULTILINE)
_RULE: Final = re.compile(r"^[ ]*(?:(?:-[ ]*){3,}|(?:\*[ ]*){3,}|(?:_[ ]*){3,})$", re.MULTILINE)
_BULLET: Final = re.compile(r"^([ ]*)[*+\u2022\u2023\u25aa\u25cf\u25e6][ ]+", re.MULTILINE)
_TABLE: Final = re.compile(
    r"^(?=[^\n]*\|)(?P<head>[^\n]*)\n[ ]*\|?(?:[ ]*:?-{2,}:?[ ]*\|)+(?:[ ]*:?-{2,}:?)?[ ]*$"
    r"(?P<rows>(?:\n(?=[^\n]*\|)[^\n]*)*)",
    re.MULTILINE,
)


def to_plain(text: str) -> str:
    """Take the markup off once: of nested markup the outermost."""
    text = _RULE.sub("", _FENCE.sub("", _BREAK.sub("\n", _TABLE.sub(_table, text))))
    return _INLINE.sub(_inline, _BULLET.sub(r"\1- ", _PREFIX.sub("", text)))


def _inline(found: re.Match[str]) -> str:
    url = found["url"]
    if url is None:
        names = ("auto", "bare", "code", "inner", "escaped")
        return next(found[name] for name in names if found[name] is not None)
    text, url = found["text"].strip(), url.removeprefix("mailto:").removeprefix("tel:")
    bare = url.rpartition("//")[2].rstrip("/")
    return f"{text} ({url})" if text and url and text not in (url, bare) else url or text


def _table(found: re.Match[str]) -> str:
    """Write each row as its first cell, a colon and the others."""
    rows = [found["head"], *found["rows"].splitlines()[1:]]
    return "\n".join(_row(row) for row in rows)


def _row(row: str) -> str:
    first, *others = (cell.strip() for cell in row.strip().strip("|").split("|"))
    rest = ", ".join(cell for cell in others if cell)
    return f"{first}: {rest}" if first and rest else first or rest
