"""Server-sent events out of bytes, however these are cut (WHATWG HTML, "Server-sent events").

bytes ──▶ lines (CRLF, LF or CR) ──▶ UTF-8 ──▶ fields ──▶ an empty line ends an event

A line is decoded when it is whole, so no character is ever cut. `id` and `retry` serve browsers
that reconnect, and are ignored.
"""

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple

from worker.net.answer import IncompleteAnswerError

# CRLF first: else it would count as two ends, the second of which ends an event.
_LINE_END = re.compile(rb"\r\n|\n|\r")


class Event(NamedTuple):
    """One event. `name` is empty if the server sent none."""

    name: str
    data: str


class EventDecoder:
    """Takes a body part by part, yields events. For one body."""

    def __init__(self, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()
        """The line that has not ended yet."""
        self._ended_by_cr = False
        self._begun = False
        self._name = ""
        self._data: list[str] = []
        self._size_bytes = 0

    def feed(self, part: bytes) -> Iterator[Event]:
        """Yield the events that this part completes; to be read to its end before the next part.

        IncompleteAnswerError: an event, or a line, is larger than the limit.
        """
        # The LF of a CRLF that was cut between two parts.
        if self._ended_by_cr and part:
            part = part.removeprefix(b"\n")
            self._ended_by_cr = False
        *ends, rest = _LINE_END.split(part)
        self._ended_by_cr = self._ended_by_cr or part.endswith(b"\r")
        for end in ends:
            self._extend(end)
            line = bytes(self._line)
            self._line.clear()
            event = self._take(line)
            if event is not None:
                yield event
        self._extend(rest)

    @property
    def inside(self) -> str | None:
        """The thing that an end here would cut: "a character", "an event"; None: nothing."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(self._line)
        if decoder.getstate()[0]:
            return "a character"
        return "an event" if self._line or self._data or self._name else None

    def _extend(self, more: bytes) -> None:
        self._line += more
        # A line or an event without an end would fill the memory.
        if self._size_bytes + len(self._line) > self._max_event_bytes:
            raise IncompleteAnswerError(f"event larger than {self._max_event_bytes} bytes")

    def _take(self, line: bytes) -> Event | None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line:
            event = Event(name=self._name, data="\n".join(self._data)) if self._data else None
            self._name, self._data, self._size_bytes = "", [], 0
            return event
        field, _, value = line.partition(b":")
        if field not in {b"event", b"data"}:  # a comment has an empty field
            return None
        self._size_bytes += len(line)
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if field == b"data":
            self._data.append(text)
        else:
            self._name = text
        return None
