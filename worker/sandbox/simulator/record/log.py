"""The append-only log: written as it happens, read by tests as the truth about "Telnyx's side".

One JSON object a line: `{"seq": n, "at": seconds of CLOCK_BOOTTIME, "event": {"kind": ..., ...}}`.
`seq` grows by one and goes on after a restart. A line is handed to the kernel before anything else
happens, so a killed simulator has lost nothing but, at worst, the line it was writing.

How the invariants of a turn are read from it:

    a user's texts reached Telnyx in order, once each          `user_texts`
    a reply belongs to exactly that history                    `MessageStored.prefix` of outputs
    which conversations were ever written to                   `written_conversations`
    no two requests of a conversation at work at once          `overlaps`
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from worker.sandbox.simulator.record.events import (
    Event,
    ExecutionEnded,
    MessageStored,
    RequestReceived,
    Started,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the log."""

    seq: int
    at: float
    """CLOCK_BOOTTIME: goes on while the machine sleeps, is the same in all processes of it."""
    event: Annotated[Event, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Two requests that were at work on one conversation at once, by their numbers."""

    conversation_id: str
    earlier: int
    later: int


_ENTRY = TypeAdapter(Entry)


class EventLog:
    """The writer. Without a path the log lives in memory only."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._kept: list[Entry] = []
        self._seq = 0
        self._descriptor: int | None = None
        if path is not None:
            last = _mended(path)
            self._seq = _ENTRY.validate_json(last).seq if last else 0
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._descriptor = os.open(path, flags, 0o600)

    def append(self, event: Event) -> int:
        """Write it down; return its sequence number."""
        self._seq += 1
        entry = Entry(seq=self._seq, at=time.clock_gettime(time.CLOCK_BOOTTIME), event=event)
        if self._path is None:
            self._kept.append(entry)
        elif self._descriptor is not None:
            os.write(self._descriptor, dumped(entry))
        return self._seq

    def entries(self) -> tuple[Entry, ...]:
        """Return everything so far, that of former processes included. Safe in any thread."""
        return tuple(self._kept) if self._path is None else read_log(self._path)

    def close(self) -> None:
        """Close the file; later events are not recorded."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def dumped(entry: Entry) -> bytes:
    """Return the line of an entry."""
    return _ENTRY.dump_json(entry) + b"\n"


def read_log(path: Path) -> tuple[Entry, ...]:
    """Return all whole lines of a log; a line that is still being written is left out."""
    if not path.exists():
        return ()
    lines = path.read_bytes().split(b"\n")[:-1]
    return tuple(_ENTRY.validate_json(line) for line in lines)


def overlaps(entries: Iterable[Entry], *, slack_s: float = 0.0) -> tuple[Overlap, ...]:
    """Return pairs of requests for a response that were at work on one conversation at once.

    `slack_s` forgives that much: a client that leaves is noticed up to 0.05 s later.
    """
    spans: dict[int, tuple[str, float, float]] = {}
    for entry in entries:
        match entry.event:
            case RequestReceived(endpoint="responses", conversation_id=str() as conversation):
                spans[entry.seq] = (conversation, entry.at, float("inf"))
            case ExecutionEnded(request=number) if number in spans:
                conversation, began, _ = spans[number]
                spans[number] = (conversation, began, entry.at)
            case Started():
                spans = {n: (c, began, min(end, entry.at)) for n, (c, began, end) in spans.items()}
            case _:
                pass
    return tuple(_pairs(spans, slack_s))


def _pairs(spans: dict[int, tuple[str, float, float]], slack_s: float) -> Iterable[Overlap]:
    at_work: dict[str, list[tuple[int, float]]] = {}
    for later, (conversation, began, ended) in spans.items():
        still = [each for each in at_work.get(conversation, []) if each[1] - slack_s > began]
        for earlier, _ in still:
            yield Overlap(conversation_id=conversation, earlier=earlier, later=later)
        at_work[conversation] = [*still, (later, ended)]


def user_texts(entries: Iterable[Entry], conversation_id: str) -> tuple[str, ...]:
    """Return the user's texts of a conversation, as Telnyx stored them, in that order."""
    return tuple(
        event.message.text or ""
        for event in _stored(entries)
        if event.conversation_id == conversation_id
        and event.message.role == "user"
        and event.message.origin != "instructions"
    )


def written_conversations(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Return the ids of all conversations into which a message was ever stored, in that order."""
    return tuple(dict.fromkeys(event.conversation_id for event in _stored(entries)))


def _stored(entries: Iterable[Entry]) -> Iterable[MessageStored]:
    return (entry.event for entry in entries if isinstance(entry.event, MessageStored))


def _mended(path: Path) -> bytes:
    """Cut off a last line that a killed process left unfinished; return the last whole one."""
    if not path.exists():
        return b""
    whole, newline, _ = path.read_bytes().rpartition(b"\n")
    os.truncate(path, len(whole) + len(newline))
    return whole.rpartition(b"\n")[2]
