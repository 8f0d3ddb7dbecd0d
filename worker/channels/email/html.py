"""HTML of a mail: its visible text, and markup that the library reads in linear time."""

import re
from collections import Counter
from typing import Final

from email_reply_extractor import html_to_text

MAX_HTML: Final = 256 * 1024
"""Characters; the rest is cut."""
_MAX_OPEN: Final = 200
"""Elements inside each other: the library walks through all of them at each tag."""
_SPECIAL: Final = (("<!--", "-->"), ("<![", "]>"), ("<!", ">"), ("<?", ">"))
_TAG: Final = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9:]*)[^<>]*>|<(?=[A-Za-z/])")
_VOID: Final = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr")
)


def visible_text(html: str) -> str:
    """Return the text of HTML, with its blocks as lines."""
    return html_to_text(bounded_html(html)) if html.strip() else ""


def bounded_html(html: str) -> str:
    """Return the HTML without comments, stray end tags and deep nesting."""
    html = html[:MAX_HTML]
    for begin, end in _SPECIAL:
        html = _without(html, begin, end)
    opened: Counter[str] = Counter()

    def kept(tag: re.Match[str]) -> str:
        if tag[2] is None:  # a tag that never ends
            return "&lt;"
        name = tag[2].lower()
        if name in _VOID:
            return tag[0]
        step = -1 if tag[1] else 1
        opened[name] += step
        if opened[name] >= 0 and opened.total() <= _MAX_OPEN:
            return tag[0]
        opened[name] -= step
        return "<br>"

    return _TAG.sub(kept, html)


def _without(html: str, begin: str, end: str) -> str:
    """Leave out what is between two marks; one that never ends is a text."""
    kept: list[str] = []
    at = 0
    while (start := html.find(begin, at)) >= 0:
        stop = html.find(end, start + len(begin))
        if stop < 0:
            return "".join((*kept, html[at:].replace(begin, " ")))
        kept.append(html[at:start])
        at = stop + len(end)
    return "".join((*kept, html[at:]))
