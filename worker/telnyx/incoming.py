"""An answer whose body is still to be read: whole, or part by part."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from worker.telnyx.answers.answer import Answer
from worker.telnyx.transport import LineError

MAX_ANSWER_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """The head is there, the body comes. To be read once."""

    head: Answer
    """Its body is empty."""
    parts: Iterator[bytes]
    """LineError in the middle: the rest does not come."""


def read_whole(incoming: Incoming) -> Answer:
    """Read to the end. LineError: there is none, or it is further than MAX_ANSWER_BYTES."""
    return replace(incoming.head, body=b"".join(at_most(MAX_ANSWER_BYTES, incoming.parts)))


def at_most(limit_bytes: int, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Pass the parts on. LineError instead of the one that goes over the limit."""
    size_bytes = 0
    for part in parts:
        size_bytes += len(part)
        if size_bytes > limit_bytes:
            raise LineError(f"answer larger than {limit_bytes} bytes")
        yield part
