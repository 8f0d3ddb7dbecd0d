"""Unknown fields of an envelope: they are stored, never read, and often typos."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from worker.envelope import Envelope

_LIKE: Final = 0.7
"""Similarity from which a name may be a typo of another; `recipent` and `recipient` have 0.94."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownField:
    """A field of an envelope that has no meaning here."""

    name: str
    meant: str | None
    """The field that it may be a typo of."""


def unknown_fields(names: Iterable[str]) -> tuple[UnknownField, ...]:
    """Return the names that no envelope has, each with the most similar known one."""
    known = list(Envelope.model_fields)
    return tuple(
        UnknownField(name=name, meant=next(iter(get_close_matches(name, known, 1, _LIKE)), None))
        for name in names
        if name not in Envelope.model_fields
    )
