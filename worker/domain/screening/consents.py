"""The ledger of opt-outs and opt-ins: when an entry counts.

The ledger is append-only. A person is stopped while an opt-out stands: one that came after their
last opt-in. An opt-in counts only if it may lift all that stand.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Self

from worker.domain.screening.verdict import LIFTED_BY
from worker.domain.states import ConsentSource, DeliveryState

OPTED_OUT: Final = "opted_out"
"""Outcome of a message that is not answered because its sender has opted out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody by address, on all channels of a scope."""

    scope: str
    address: str
    groups: tuple[int, ...]
    """Keys of the address's groups on these channels, by which its channel users are found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """Somebody opts out, or in again."""

    person: Person
    stopped: bool
    source: ConsentSource
    channel: str = ""
    """Where they said so, as is `recipient`; empty = they said it to a person."""
    recipient: str = ""

    @classmethod
    def of_block(cls, person: Person, *, channel: str, recipient: str) -> Self:
        """Return the opt-out of a person whom the provider blocks."""
        return cls(
            person=person,
            stopped=True,
            source=ConsentSource.TELNYX_BLOCK,
            channel=channel,
            recipient=recipient,
        )

    def is_new(self, standing: Collection[ConsentSource]) -> bool:
        """Return whether the ledger takes it; `standing`: the sources of opt-outs not lifted."""
        if self.stopped:
            return self.source not in standing
        return bool(standing) and all(self.source in LIFTED_BY[one] for one in standing)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceText:
    """An answer that no model writes: HELP, or the confirmation of an opt-out."""

    text: str
    way_out: str
    """Name of the channel or route that delivers it."""
    first_state: DeliveryState
