"""Recognises two machines that answer each other, before the model is asked once more.

    address   one address has had 10 turns in 10 minutes or 25 in an hour, on all its threads,
              or has sent the same text three times in a row
    group     as many turns of new addresses of one domain or block of numbers had nearly the same
              text: a machine may change its address each time

A person who steps in ends a loop: only turns after theirs count. Ten people of one domain are none:
their texts differ. On a public mail domain the addresses have to look alike as well, for a link in
an advertisement writes the same text for everybody.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Final

from worker.domain.states import TurnKind

LOOP: Final = "loop"
"""`pause_reason` of a channel user whom this has stopped."""
BURST: Final = (10, timedelta(minutes=10))
HOURLY: Final = (25, timedelta(hours=1))
SIMILAR: Final = 3
"""Texts in a row, with the newest."""
MIN_SAME: Final = 20
MIN_SIMILAR: Final = 40
"""Shorter texts are what people repeat: `yes`, `Where is my order?`."""
MAX_COMPARED: Final = 500
"""Characters of a text that are compared."""
_ALIKE: Final = 0.9
_MIN_LETTERS: Final = 3
"""Before the @, without numbers, to compare two addresses."""
_WORD: Final = re.compile(r"\w+")
_NUMBER: Final = re.compile("[0-9]+")
_MAIL: Final = (
    "gmail.com googlemail.com outlook.com hotmail.com live.com msn.com yahoo.com ymail.com aol.com"
    " icloud.com me.com mac.com gmx.com gmx.net gmx.de web.de t-online.de freenet.de mail.com"
    " proton.me protonmail.com zoho.com yandex.ru mail.ru qq.com 163.com 126.com naver.com"
    " orange.fr free.fr libero.it wp.pl comcast.net"
)
PUBLIC_DOMAINS: Final = frozenset(_MAIL.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentTurn:
    """A turn of the last hour, of an address or of its group."""

    address: str
    kind: TurnKind
    opened_at: datetime
    text: str
    """The beginning of what was written."""


def loop_rule(
    address: str, text: str, recent: Sequence[RecentTurn], *, now: datetime
) -> str | None:
    """Return the rule by which a new turn continues a loop, `address` or `group`; None = none.

    `recent`: the newest first.
    """
    own = tuple(takewhile(_is_ours, (one for one in recent if one.address == address)))
    last = [one.text for one in own[: SIMILAR - 1]]
    if _too_many(own, now) or (
        len(last) == SIMILAR - 1 and all(is_similar(text, one) for one in last)
    ):
        return "address"
    public = address.rpartition("@")[2].lower() in PUBLIC_DOMAINS
    others = (one for one in recent if one.address != address and _is_ours(one))
    like = [
        one
        for one in others
        if (is_alike(address, one.address) and is_similar(text, one.text))
        or (not public and is_similar(text, one.text, same=False))
    ]
    return "group" if _too_many(like, now) else None


def _is_ours(turn: RecentTurn) -> bool:
    return turn.kind is TurnKind.MODEL


def _too_many(turns: Iterable[RecentTurn], now: datetime) -> bool:
    times = [one.opened_at for one in turns]
    return any(sum(at > now - span for at in times) >= most for most, span in (BURST, HOURLY))


def is_similar(text: str, other: str, *, same: bool = True) -> bool:
    """Whether two texts are nearly the same: in nine of ten words, whatever the numbers in them.

    `same`: a shorter text counts if it is the very same.
    """
    text, other = text[:MAX_COMPARED].strip(), other[:MAX_COMPARED].strip()
    if len(text) < MIN_SIMILAR or len(other) < MIN_SIMILAR:
        return same and text == other and len(text) >= MIN_SAME
    one, two = (Counter(_words(each)) for each in (text, other))
    return (one & two).total() >= _ALIKE * max(one.total(), two.total(), 1)


def _words(text: str) -> Iterator[str]:
    for word in _WORD.findall(text.casefold()):
        yield "0" if any(map(str.isdigit, word)) else word


def _without_variables(address: str) -> str:
    local, _, domain = address.lower().rpartition("@")
    return f"{_NUMBER.sub('', local.partition('+')[0])}@{domain}"


def is_alike(address: str, other: str) -> bool:
    """Whether two mail addresses differ in numbers, in what follows a plus, or in one letter."""
    if "@" not in address:
        return False  # numbers of one block belong to different people
    one, two = map(_without_variables, (address, other))
    if min(one.index("@"), two.index("@")) < _MIN_LETTERS:
        return False  # at some providers, all accounts are numbers
    head = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False)))
    rest = (one[head:], two[head:])
    return rest[0][1:] in (rest[1], rest[1][1:]) or rest[0] == rest[1][1:]
