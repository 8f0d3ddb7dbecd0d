"""A bad entry on its way to `dead_letters`, as the arguments of a task."""

import base64
from dataclasses import dataclass
from typing import Any, Self

from worker.domain.reasons import DeadLetterReason


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedEntry:
    """`detail` is in words of ours; `queue` the one it came from."""

    raw: bytes
    reason: DeadLetterReason
    detail: str
    queue: str

    def as_args(self) -> list[str]:
        """JSON that any bytes survive."""
        return [base64.b64encode(self.raw).decode(), self.reason.value, self.detail, self.queue]

    @classmethod
    def from_args(cls, args: list[Any]) -> Self:
        """Raise ValueError for what `as_args` has not made: a stranger may call the task too."""
        match args:
            case [str() as raw, str() as reason, str() as detail, str() as queue]:
                return cls(
                    raw=base64.b64decode(raw, validate=True),
                    reason=DeadLetterReason(reason),
                    detail=detail,
                    queue=queue,
                )
            case _:
                raise ValueError("not the arguments of a letter")
