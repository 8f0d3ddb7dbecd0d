"""Telnyx's error codes of messages: what each is about, and what is done.

    PERSON   this person cannot be reached so         rejected
    TEXT     this text is not taken                   rejected; a filter's answer goes to a person
    SETUP    a number or profile is set up wrongly    rejected; the gate of that number closes
    PROFILE  nothing goes out before somebody acts    tried again; the gate of the channel closes
    RATE     too many requests of the account         tried again; the gate of the channel closes
    SLOW     too many messages of a number            tried again; the gate of the number closes
    SENDER   this number cannot be used for now       tried again; the gate of the number closes

A code that is not here is judged by its status alone. Sources: Telnyx's pages "Messaging error
codes" (with its part "Retriable vs permanent errors"), "API error codes" and "Configurable spend
limits", in its knowledge base.
"""

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

OPTED_OUT: Final = "40300"
SPEND_LIMIT: Final = "40333"
"""Comes with status 429 and lasts until midnight UTC, whatever is changed meanwhile."""
REPEATABLE: Final = frozenset({"40006", "40008"})
"""After `message.finalized` with one of these, a message with another key may succeed."""


class Trouble(Enum):
    """What a code is about."""

    PERSON = auto()
    TEXT = auto()
    SETUP = auto()
    PROFILE = auto()
    RATE = auto()
    SLOW = auto()
    SENDER = auto()


def _all(trouble: Trouble, codes: Iterable[int]) -> dict[str, Trouble]:
    return {str(code): trouble for code in codes}


TROUBLES: Final = {
    **_all(
        Trouble.PERSON,
        (10002, 10016, 40001, 40003, 40004, 40012, 40300, 40301, 40309, 40310, 40319),
    ),
    **_all(Trouble.TEXT, (40002, 40009, 40015, 40017, 40302, 40304, 40316, 40317, 40322, 40328)),
    **_all(
        Trouble.SETUP,
        (10038, 10039, 40010, 40013, 40019, 40305, 40306, 40307, 40308, 40315, 40325, 40329),
    ),
    **_all(
        Trouble.PROFILE,
        (10009, 10010, 20002, 20012, 20100, 40311, 40312, 40313, 40314, 40331, 40333),
    ),
    **_all(Trouble.RATE, (10011,)),
    **_all(Trouble.SLOW, (40011, 40016, 40018, 40318)),
    **_all(Trouble.SENDER, (40020, 40100, 40151, 40320, 40321, 40330)),
}

REASONS: Final = {
    OPTED_OUT: "opted_out",
    SPEND_LIMIT: "spend_limit",
}
"""Words instead of codes, where others look for them."""


def reason_of(code: str) -> str:
    """Return the text that is stored with a delivery."""
    return REASONS.get(code, f"code {code}")
