"""Spans of the work that is under way. Here there are none: that is for processes without traces.

`worker.observability.otel` makes them. Which of the two, is decided when a process
starts.
Facts are ids, numbers, and names of the configuration or of the code: never a text, an address, or
anything that a producer or a model may choose. A `traceparent` is that of W3C Trace Context.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum, auto
from typing import Final, TypeAlias

Facts: TypeAlias = Mapping[str, str | int | None]
"""None = not known, so left out. `error.type` makes its span one that failed."""
Tell: TypeAlias = Callable[[], Facts]
"""Gives facts; not called where nobody wants them."""
TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_NOWHERE: Final = nullcontext()


class Kind(Enum):
    """Which side of a call or a message a span is, as OpenTelemetry has it."""

    INTERNAL = auto()
    CONSUMER = auto()
    PRODUCER = auto()
    CLIENT = auto()


class Tracer:
    """One for all threads of a process."""

    def span(
        self,
        name: str,  # noqa: ARG002 - and so below: this one makes none
        tell: Tell,  # noqa: ARG002
        *,
        kind: Kind = Kind.INTERNAL,  # noqa: ARG002
        parent: str | None = None,  # noqa: ARG002
        links: Sequence[str] = (),  # noqa: ARG002
    ) -> AbstractContextManager[None]:
        """Make what happens within a span. Of an exception it notes the type and nothing else.

        `parent` and `links` are traceparents: of what caused it (None = the span around it), and of
        what it belongs to besides.
        """
        return _NOWHERE

    def note(self, tell: Tell) -> None:
        """Add facts to the span around this."""

    def here(self) -> str | None:
        """Give the traceparent of the span around this; None = there is none."""
        return None
