"""What screening says of a message, and who may lift whose opt-out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from worker.domain.states import ConsentSource

ConsentChange: TypeAlias = Literal["stop", "start"]

_BY_TELNYX: Final = frozenset({ConsentSource.TELNYX_KEYWORD, ConsentSource.TELNYX_BLOCK})
_BY_PERSON: Final = frozenset(
    {
        ConsentSource.TELNYX_KEYWORD,
        ConsentSource.NATURAL,
        ConsentSource.SIGNAL,
        ConsentSource.OPERATOR,
    }
)
LIFTED_BY: Final[Mapping[ConsentSource, frozenset[ConsentSource]]] = {
    # Telnyx would refuse the message (40300) until it has seen START itself.
    ConsentSource.TELNYX_KEYWORD: _BY_TELNYX,
    ConsentSource.TELNYX_BLOCK: _BY_TELNYX,
    # The person's own word always counts; an import only undoes an import.
    ConsentSource.NATURAL: _BY_PERSON,
    ConsentSource.SIGNAL: _BY_PERSON,
    ConsentSource.OPERATOR: _BY_PERSON,
    ConsentSource.IMPORT: _BY_PERSON | {ConsentSource.IMPORT},
    # A mail from an address that bounced shows that the address works again.
    ConsentSource.BOUNCE: _BY_PERSON,
}
"""The source of an opt-out, and the sources of an opt-in that ends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why a message is not answered by a model, and what happens instead."""

    outcome: str
    rule: str
    """The name of the rule that applied, for people."""
    consent: ConsentChange | None = None
    """The person has opted out or in; None = neither."""
    source: ConsentSource | None = None
    """How that became known; None = there is no such change."""
    text: str | None = None
    """The answer that needs no model; None = there is none."""
