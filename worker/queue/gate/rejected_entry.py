"""A rejected entry on its way to the table `dead_letters`, as the arguments of a task."""

import base64
from dataclasses import dataclass
from typing import Any, Self

from worker.domain.reasons import DeadLetterReason


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedEntry:
    """The bytes and the reason. `detail` is in fixed words; `queue` is the one it came from."""

    raw: bytes
    reason: DeadLetterReason
    detail: str
    queue: str

    def as_args(self) -> list[str]:
        """Return JSON values that keep any bytes intact."""
        # Entries of earlier releases may still be queued or unacked: the order and the form of
        # these four must not change.
        return [base64.b64encode(self.raw).decode(), self.reason.value, self.detail, self.queue]

    @classmethod
    def from_args(cls, args: list[Any]) -> Self:
        """Read the form of `as_args`. Raises ValueError otherwise: strangers may call the task."""
        match args:
            case [str() as raw, str() as reason, str() as detail, str() as queue]:
                return cls(
                    raw=base64.b64decode(raw, validate=True),
                    reason=DeadLetterReason(reason),
                    detail=detail,
                    queue=queue,
                )
            case _:
                raise ValueError("not the arguments of dead_letters.keep")
