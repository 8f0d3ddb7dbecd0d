"""What is left around a removed quote: the line that introduces it, rulers, signatures."""

import re
from collections.abc import Sequence
from typing import Final

_END: Final = re.compile(r">\s?\w{1,20}:")
"""The end of an attribution whose address was wrapped before its bracket."""
_DATE: Final = re.compile(r"\b(?:19|20)\d\d\b|\d{1,2}[:.h]\d{2}\b|\d{1,2}[./-]\d{1,2}[./-]\d|\d年")
_ADDRESS: Final = re.compile(r"<[^<>\s]{1,100}@[^<>\s]{1,200}>|mailto:|&lt;[^&\s]{1,200}@")
_FIELD: Final = re.compile(r"\*?[^\W\d_][^:\uff1a\n]{0,20}\*?[:\uff1a]")
_SUBJECTS: Final = frozenset(
    (
        *("subject", "betreff", "objet", "asunto", "oggetto", "assunto", "onderwerp", "ämne"),
        *("emne", "aihe", "temat", "předmět", "tárgy", "konu", "тема", "主题", "主旨", "件名"),
        *("제목", "الموضوع", "נושא", "chủ đề"),
    )
)
_MIN_FIELDS: Final = 3
_RULER: Final = re.compile(r"[-_=*~\u2014\u2500]{5,}+|-{2,20}+\s?[^\W\d_][\w ]{2,40}-{2,20}")
"""A line across, or one that says that an original message follows."""
_SIGNATURE: Final = frozenset({"--", "\u2014", "__"})
_DEVICES: Final = (
    *("sent from ", "sent with ", "sent via ", "sent by ", "sent using ", "from my i"),
    *("get outlook for", "get [outlook for", "envoyé de", "envoye de", "envoyé avec"),
    *("von meinem ", "gesendet von ", "gesendet mit ", "diese nachricht wurde von mein"),
    *("verzonden met", "verzonden van", "verstuurd vanaf", "verstuurd met", "enviado desde"),
    *("enviado do ", "enviado de ", "enviado con ", "enviado a partir", "inviato da"),
    *("inviato con", "wysłane z ", "wyslane z ", "skickat från", "skickat fran", "sendt fra"),
    *("lähetetty", "отправлено ", "從我的", "发自我的", "iphoneから送信"),
)
_MAX_DEVICE: Final = 120
_MAX_INTRODUCTION: Final = 6
"""Lines of what introduces a quote: some clients wrap it at each space."""
_MAX_SIGNATURE: Final = 12


def is_quoted(line: str) -> bool:
    """Whether a line begins with the mark of a quote."""
    # Some clients put dots before the mark when they wrap a line.
    return line.lstrip(" \t.").startswith(">")


def is_attribution(lines: Sequence[str], *, sure: bool = False) -> bool:
    """Whether these lines introduce a quote, in whatever language: who, when, and a colon.

    `sure`: only with an address and a date.
    """
    text = " ".join(line.strip() for line in lines)
    if len(lines) > _MAX_INTRODUCTION or len(text) > 400:  # noqa: PLR2004
        return False
    signs = bool(_DATE.search(text)) + bool(_ADDRESS.search(text))
    return signs == 2 or (not sure and signs == 1 and text.endswith((":", "\uff1a")))  # noqa: PLR2004


def without_leftovers(text: str, original: Sequence[str]) -> str:
    """Return an extracted text without what belongs to the removed quotes, and its signature."""
    kept = _aligned(text.split("\n"), original)
    if kept is None:
        return text
    _cut_header_block(kept, original)
    for at in range(1, len(kept)):
        if kept[at - 1] and not kept[at]:
            _drop_introduction(kept, original, at)
    _cut_unmarked_quote(kept, original)
    _drop_signature(kept, original)
    return "\n".join(line for line, here in zip(original, kept, strict=True) if here)


def without_signature(text: str) -> str:
    """Return a text without its signature."""
    lines = text.split("\n")
    kept = [True] * len(lines)
    _drop_signature(kept, lines)
    return "\n".join(line for line, here in zip(lines, kept, strict=True) if here)


def _aligned(text: Sequence[str], original: Sequence[str]) -> list[bool] | None:
    """Return which lines of the original are in the text; None if it has others, too.

    An empty line stays with the line above it.
    """
    kept = [False] * len(original)
    at = 0
    for line in text:
        wanted = line.strip()
        if not wanted:
            continue
        while at < len(original) and original[at].strip() != wanted:
            at += 1
        if at == len(original):
            return None
        kept[at] = True
        at += 1
    for at in range(1, len(kept)):
        kept[at] |= kept[at - 1] and not original[at].strip()
    return kept


def _label(line: str) -> str:
    return line.replace("\uff1a", ":").partition(":")[0].strip(" *").lower()


def _is_field(line: str) -> bool:
    return _FIELD.match(line.lstrip()) is not None


def _cut_header_block(kept: list[bool], original: Sequence[str]) -> None:
    """Cut off a message below its headers, as Outlook quotes it: in the language of its user."""
    for at in range(1, len(kept)):
        if kept[at] and _is_field(original[at]) and not _is_field(original[at - 1]):
            block = []
            for line in original[at : at + _MAX_INTRODUCTION]:
                if not _is_field(line):
                    break
                block.append(line.strip())
            named = any(_label(line) in _SUBJECTS for line in block)
            if named and len(block) >= _MIN_FIELDS and _DATE.search(" ".join(block)):
                kept[at:] = [False] * (len(kept) - at)
                return


def _cut_unmarked_quote(kept: list[bool], original: Sequence[str]) -> None:
    """Cut off what follows an attribution, if its client does not mark quotes."""
    marked = (
        at
        for at, line in enumerate(original)
        if is_quoted(line) and not _END.fullmatch(line.strip())
    )
    at = max(marked, default=-1) + 1
    while at < len(kept):
        stop = at + 1
        while stop < len(kept) and not kept[at] and not kept[stop]:
            stop += 1
        lines = [line for line in original[at:stop] if line.strip()]
        alone = not kept[at] or not (
            original[at - 1].strip() or "".join(original[stop : stop + 1]).strip()
        )
        if at and lines and alone and is_attribution(lines, sure=kept[at]):
            kept[at:] = [False] * (len(kept) - at)
            return
        at = stop


def _drop_introduction(kept: list[bool], original: Sequence[str], end: int) -> None:
    """Drop attributions and rulers that stand right above a removed line."""
    while True:
        above = [at for at in range(end) if kept[at] and original[at].strip()][-4:]
        if not above:
            return
        if _RULER.fullmatch(original[above[-1]].strip()):
            dropped = above[-1:]
        else:
            dropped = next(
                (
                    above[-count:]
                    for count in (1, 2, 3)
                    if len(above) >= count
                    and is_attribution([original[at] for at in above[-count:]])
                ),
                [],
            )
        if not dropped:
            return
        for at in range(dropped[0], end):
            kept[at] = False


def _is_of_device(line: str) -> bool:
    return line.strip().lower().lstrip("<([").startswith(_DEVICES)


def _drop_signature(kept: list[bool], original: Sequence[str]) -> None:
    """Drop the signature, and the line in which a phone names itself."""
    here = [at for at, line in enumerate(original) if kept[at] and line.strip()]
    for back, at in enumerate(reversed(here)):
        if back <= _MAX_SIGNATURE and original[at].strip() in _SIGNATURE:
            here = here[: len(here) - back - 1]
            break
    while here and (
        _RULER.fullmatch(original[here[-1]].strip())
        or (len(original[here[-1]]) <= _MAX_DEVICE and _is_of_device(original[here[-1]]))
    ):
        here.pop()
    stop = here[-1] + 1 if here else 0
    kept[stop:] = [False] * (len(kept) - stop)
