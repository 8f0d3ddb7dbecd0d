"""Reads a file of messages: .jsonl (each line an envelope or a part of one) or .tsv.

The file's name, its time and the line's number determine the `message_id`. So the same file sent
again is the same messages again, and changes nothing.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.cli.console import progress_bar, warn
from worker.cli.errors import MISUSED, CommandError

# Not at run time: the command's help imports this module, and the client takes its time.
if TYPE_CHECKING:
    from worker.client import MessageKey

BLOCK_LINES: Final = 15
"""How many adjacent lines go to one user with `Spread.BLOCKS`."""
_FAULTS_SHOWN: Final = 20
_PHONE_LIKE: Final = frozenset({"sms", "mms", "rcs", "whatsapp", "voice", "telephone"})
_MAIL_LIKE: Final = frozenset({"email", "mail", "e-mail"})


class Spread(StrEnum):
    """How the lines of a file are spread over users."""

    ROUND_ROBIN = "round-robin"
    BLOCKS = "blocks"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLine:
    """One line that is not empty: its fields, or the reason why it cannot be read."""

    number: int
    fields: Mapping[str, object] = field(default_factory=dict)
    fault: str = ""


@dataclass(kw_only=True)
class FileSend:
    """One run over a file: the messages that go out, and the lines that do not."""

    file: Path
    flags: Mapping[str, object]
    """Fields of every line that does not have them itself."""
    check: Callable[[Mapping[str, object]], "MessageKey"]
    """Raises `CommandError` for an envelope that a worker would refuse."""
    text_column: int | None
    users: int | None
    """Spread the lines over this number of invented users; None = the line or a flag names one."""
    spread: Spread
    keys: list["MessageKey"] = field(default_factory=list)
    refused: int = 0

    def envelopes(self) -> Iterator[dict[str, object]]:
        """Return the valid envelopes, a line at a time; warn about each other line."""
        of_line = identity(self.file)
        with progress_bar("sending", count_lines(self.file)) as tick:
            for line in read_lines(self.file, text_column=self.text_column):
                tick(1)
                try:
                    envelope = self._completed(line, of_line(line.number))
                    self.keys.append(self.check(envelope))
                except CommandError as error:
                    self._refuse(line, str(error))
                else:
                    yield envelope

    def _completed(self, line: FileLine, of_line: Mapping[str, object]) -> dict[str, object]:
        """Complete a line: its own fields win, then the flags, then what its number determines."""
        if line.fault:
            raise CommandError(line.fault)
        envelope = {**of_line, **self.flags, **line.fields}
        if "user" not in envelope and self.users is not None:
            number = user_of_line(line.number, users=self.users, spread=self.spread)
            envelope["user"] = address(str(envelope.get("channel", "")), number)
        return envelope

    def _refuse(self, line: FileLine, fault: str) -> None:
        """Warn about a line that is not sent; after a while only count."""
        self.refused += 1
        if self.refused <= _FAULTS_SHOWN:
            warn(f"{self.file.name}: line {line.number}: {fault}")
        elif self.refused == _FAULTS_SHOWN + 1:
            warn("more lines have faults, from here on they are only counted")


def read_lines(file: Path, *, text_column: int | None = None) -> Iterator[FileLine]:
    """Read a file, a line at a time; a line that cannot be read comes as a fault.

    `text_column` counts from 1, negative from the end; None = the last one. For .tsv only.
    """
    read = _reader(file, text_column)
    with file.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            bare = raw.rstrip(b"\r\n")
            if not bare.strip():
                continue
            try:
                yield FileLine(number=number, fields=read(bare.decode()))
            except UnicodeDecodeError:
                yield FileLine(number=number, fault="the line is not UTF-8")
            except ValueError as error:
                yield FileLine(number=number, fault=str(error))


def count_lines(file: Path) -> int:
    """Count the lines that are not empty."""
    with file.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


def identity(file: Path) -> Callable[[int], dict[str, object]]:
    """Return a function from a line's number to its `message_id` and `sent_at`."""
    began_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)

    def of_line(number: int) -> dict[str, object]:
        sent_at = began_at + timedelta(milliseconds=number)
        return {"message_id": f"{file.name}:{number}", "sent_at": sent_at.isoformat()}

    return of_line


def user_of_line(number: int, *, users: int, spread: Spread) -> int:
    """Choose a user, from 0, for the line of this number, from 1."""
    place = number - 1
    return (place if spread is Spread.ROUND_ROBIN else place // BLOCK_LINES) % users


def address(channel: str, user: int) -> str:
    """Make the address of an invented user, fit for the channel."""
    if channel in _PHONE_LIKE:
        return f"+1312555{user:04d}"
    if channel in _MAIL_LIKE:
        return f"user{user:04d}@example.com"
    return f"user{user:04d}"


def _reader(file: Path, text_column: int | None) -> Callable[[str], Mapping[str, object]]:
    match file.suffix:
        case ".jsonl" | ".ndjson":
            return _from_json
        case ".tsv":
            return lambda line: {"text": _column(line.split("\t"), text_column or -1)}
        case _:
            raise CommandError(f"{file.name}: give a .jsonl or .tsv file", exit_code=MISUSED)


def _from_json(line: str) -> Mapping[str, object]:
    try:
        document = json.loads(line)
    except RecursionError:
        raise ValueError("too many lists and objects inside each other") from None
    except ValueError:
        # `from None`: the original quotes the line.
        raise ValueError("the line is not JSON") from None
    if not isinstance(document, dict):
        raise ValueError("give an object")  # noqa: TRY004 - one kind of fault for the caller
    return document


def _column(columns: list[str], wanted: int) -> str:
    try:
        return columns[wanted - 1 if wanted > 0 else wanted]
    except IndexError:
        raise ValueError(f"there is no column {wanted}, only {len(columns)}") from None
