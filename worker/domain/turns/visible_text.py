"""The part of a model's text that people may see.

    <think>...</think>, <tool_call>...</tool_call>   dropped at the head, as often as they come
    one of them without its end                      dropped with all that follows
    a stray </think>                                 dropped with all that is before it
    no visible character left                        the text is empty

Anything else is the reply, as it is: people ask about HTML, and about models.
"""

import re
import unicodedata
from typing import Final

_THOUGHT: Final = r"(?:\w{1,16}:)?(?:think|thinking|thoughts?|reasoning)"
_CALL: Final = r"(?:\w{1,16}:)?(?:tool_calls?|function_calls?|tool_code|tool_use|tool_response)"
_MORE: Final = r"(?:\s[^<>]{0,200})?"
_TOKEN: Final = r"<[|\uff5c]tool[_▁]calls?(?:[_▁]section)?[_▁]%s[|\uff5c]>"  # noqa: S105 - models' markup
# Blocks by their opening tags, and what closes each.
_BLOCKS: Final = tuple(
    (re.compile(opening, re.IGNORECASE), re.compile(closing, re.IGNORECASE))
    for opening, closing in (
        (rf"<{_THOUGHT}{_MORE}(?<!/)>|\[think\]|◁think▷", rf"</{_THOUGHT}\s*>|\[/think\]|◁/think▷"),
        (rf"<{_CALL}{_MORE}(?<!/)>", rf"</{_CALL}\s*>"),
        (r"<function=[^<>]{1,200}>", r"</function\s*>"),
        (_TOKEN % "begin", _TOKEN % "end"),
        (r"\[TOOL_CALLS\]", r"\[/TOOL_CALLS\]"),
    )
)
_OPENED, _CLOSED = _BLOCKS[0]
_STRAY: Final = re.compile(
    rf"(?:(?:</(?:{_THOUGHT}|{_CALL}|function)\s*>|<(?:{_THOUGHT}|{_CALL})\s*/>|\[/think\]|◁/think▷)\s*)+",
    re.IGNORECASE,
)
_BEGUN: Final = re.compile(r"[<\[◁][/|\uff5c]?(?:\w{1,16}:)?([\w▁]*)(=?[^<>\[\]◁▷]{0,200})\Z")
_WORDS: Final = (
    *("think", "thinking", "thought", "thoughts", "reasoning", "tool_call", "tool_calls"),
    *("function", "function_call", "function_calls", "tool_code", "tool_use", "tool_response"),
)
_KEPT_CHARS: Final = 256
"""The longest tag, as far as it is looked for across two pieces of a stream."""
_LOOKS: Final = 8
_BEFORE_A_WORD: Final = " \t`'\"\u201c\u2018\u00ab("
_AFTER_A_WORD: Final = " \t`'\"\u201d\u2019\u00bb),.;:!?"
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp", "Mn", "Me"})
_FILLERS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0\ufffc\ufffd")
"""Blank letters, and what stands for something that is not there."""


def visible_text(text: str) -> str:
    """Return what people may see of a model's text; empty if nothing of it is visible."""
    # Nearly every text has no tag, and each reply passes here.
    if not _has_tags(text):
        return text if is_visible(text) else ""
    for looks_left in range(_LOOKS, -1, -1):
        filtered = VisibleStream()
        shown = filtered.feed(text, whole=True)
        if shown is not None:
            break
        # Behind thoughts that nobody opened there may be more of them; not without end, though.
        rest = filtered.rest if looks_left > 1 else _CLOSED.split(filtered.rest)[-1]
        text = rest.lstrip()
    if filtered.is_open:
        shown = filtered.rest
    return shown if shown and is_visible(shown) else ""


def _has_tags(text: str) -> bool:
    return "<" in text or "[" in text or "\u25c1" in text


def is_visible(text: str) -> bool:
    """Return whether a reader would see anything of the text."""
    return any(map(_shows, set(text)))


def _shows(char: str) -> bool:
    # Unassigned code points count: Unicode has new emoji each year, and Python learns them later.
    hidden = unicodedata.category(char) in _HIDDEN or char in _FILLERS
    return not hidden and not 0xE0000 <= ord(char) <= 0xE0FFF  # noqa: PLR2004 - tags of Unicode


class VisibleStream:
    """Passes on the visible text of a stream, piece by piece. For one text."""

    def __init__(self) -> None:
        self._held = ""
        """Text of which it is not known yet whether it is shown; later, the last of it."""
        self._closing: re.Pattern[str] | None = None
        """The end of the block that is being dropped."""
        self._blank = 0
        """How much of it is known to show nothing."""
        self._dropped = False
        self._passing = False
        self._opens_later = False
        self._muted = False
        self.rest = ""
        """After `feed` returned None: the text behind the stray tag."""

    @property
    def is_open(self) -> bool:
        """Whether the text so far is still held back."""
        return not self._passing

    def feed(self, piece: str, *, whole: bool = False) -> str | None:
        """Return what may be shown now; None = discard what was shown, and wait for the whole.

        `whole`: no further piece follows.
        """
        if self._muted:
            return ""
        if self._passing:
            return self._watch(piece, whole=whole)
        text, at = self._held + piece, 0
        # By position: cutting off each of a million tags would copy the text each time.
        while True:
            if self._closing is not None:
                end = self._closing.search(text, at)
                if end is None:
                    self._held = text[at:][-_KEPT_CHARS:]
                    return ""
                at, self._closing = end.end(), None
            begin = max(at, self._blank)
            start = next((one for one in range(begin, len(text)) if _shows(text[one])), None)
            self._blank = 0
            tag_end = None if start is None else self._tag_end(text, start)
            if tag_end is None:
                break
            at, self._dropped = tag_end, True
        shown = "" if start is None else text[start if self._dropped else at :]
        if start is None or _may_begin_a_tag(text, start):
            self._held, self.rest = text[at:], shown
            if start is None:
                # What shows nothing is not looked at again, and need not be kept for ever.
                self._held = self._held[-_KEPT_CHARS:]
                self._blank = len(self._held)
            return ""
        self._passing, self._held = True, ""
        return self._watch(shown, whole=whole)

    def _tag_end(self, text: str, start: int) -> int | None:
        """Return the end of the tag at `start`, which may open a block; None = there is no tag."""
        is_end = text.startswith("/", start + 1)
        for opening, closing in () if is_end else _BLOCKS:
            if found := opening.match(text, start):
                self._closing, self.rest = closing, ""
                return found.end()
        stray = _STRAY.match(text, start)
        return stray.end() if stray else None

    def _watch(self, piece: str, *, whole: bool) -> str | None:
        """Return the piece, unless a stray tag shows that all so far were thoughts."""
        text = self._held + piece
        stray = None
        if not self._opens_later and _has_tags(text):
            stray = _stray_end(text, whole=whole)
            self._opens_later = _OPENED.search(text) is not None
        if stray is None:
            self._held = text[-_KEPT_CHARS:]
            return piece
        self._muted = True
        self.rest = text[stray:]
        return None


def _stray_end(text: str, *, whole: bool) -> int | None:
    """Return where the first closing tag ends that closes thoughts nobody opened; None = none."""
    opened = _OPENED.search(text)
    for _, found in zip(range(_LOOKS), _CLOSED.finditer(text), strict=False):
        if opened is not None and opened.start() < found.start():
            return None
        if found.end() == len(text) and not whole:
            return None
        before, after = text[found.start() - 1 : found.start()], text[found.end() : found.end() + 1]
        # In the middle of a sentence or in code the text is about the tag.
        mentioned = before in _BEFORE_A_WORD and after in _AFTER_A_WORD and before and after
        if not mentioned and text.count("```", 0, found.start()) % 2 == 0:
            return found.end()
    return None


def _may_begin_a_tag(text: str, start: int) -> bool:
    """Return whether the text ends within what may become a tag."""
    begun = _BEGUN.match(text, start)
    if begun is None or len(text) - start > _KEPT_CHARS:
        return False
    return begun[2] in {"", "|", "\uff5c"} or begun[1].lower() in _WORDS
