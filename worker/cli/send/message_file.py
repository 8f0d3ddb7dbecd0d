"""Reads a file of messages: .jsonl (each line an envelope or a part of one) or .tsv.

The last column of a .tsv is the text; with a header line, each column is the field that it names.

The file's name and the line's number determine the `message_id`. So the same file sent again is the
same messages again, and changes nothing; other messages need a file of another name.
"""

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.cli.console import progress_bar
from worker.cli.errors import CommandError, MisuseError
from worker.cli.text import warn

# Not at run time: the command's help imports this module, and the client takes its time.
if TYPE_CHECKING:
    from message_worker_client import MessageKey

_FAULTS_SHOWN: Final = 20
_PHONE_LIKE: Final = frozenset({"sms", "mms", "rcs", "whatsapp", "voice", "telephone"})
_MAIL_LIKE: Final = frozenset({"email", "mail", "e-mail"})


@dataclass(kw_only=True)
class FileSend:
    """One run over a file: the messages that go out, and the lines that do not."""

    file: Path
    flags: Mapping[str, object]
    """Fields of every line that does not have them itself."""
    users: int | None
    """Invented users that write in turn, a line each; None = the line or a flag names one."""
    header: bool = False
    """The first line of a .tsv names the fields."""
    keys: list["MessageKey"] = field(default_factory=list)
    refused: int = 0

    def envelopes(
        self, check: Callable[[Mapping[str, object]], "MessageKey"]
    ) -> Iterator[dict[str, object]]:
        """Return the valid envelopes, a line at a time; warn about each other line.

        `check` raises `CommandError` for an envelope that a worker would refuse.
        """
        of_line, lines = identity(self.file), read_lines(self.file)
        read = reader(self.file, next(lines, (0, b""))[1] if self.header else None)
        with progress_bar("sending", count_lines(self.file) - self.header) as tick:
            for number, line in lines:
                tick(1)
                try:
                    # Its own fields win, then the flags, then what its number determines.
                    envelope = {**of_line(number), **self.flags, **read(line)}
                    if "user" not in envelope and self.users is not None:
                        channel, user = str(envelope.get("channel", "")), (number - 1) % self.users
                        envelope["user"] = address(channel, user)
                    self.keys.append(check(envelope))
                except CommandError as error:
                    self._refuse(number, str(error))
                else:
                    yield envelope

    def _refuse(self, number: int, fault: str) -> None:
        """Warn about a line that is not sent; after a while only count."""
        self.refused += 1
        if self.refused <= _FAULTS_SHOWN:
            warn(f"{self.file.name}: line {number}: {fault}")
        elif self.refused == _FAULTS_SHOWN + 1:
            warn("more lines have faults, from here on they are only counted")


def read_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Read the lines that are not empty, with their numbers from 1, a line at a time."""
    with file.open("rb") as lines:
        if lines.read(len(BOM_UTF8)) != BOM_UTF8:  # as editors of Windows write it
            lines.seek(0)
        for number, raw in enumerate(lines, start=1):
            if (line := raw.rstrip(b"\r\n")).strip():
                yield number, line


def count_lines(file: Path) -> int:
    """Count the lines that are not empty."""
    return sum(1 for _ in read_lines(file))


def identity(file: Path) -> Callable[[int], dict[str, object]]:
    """Return a function from a line's number to its `message_id` and `sent_at`."""
    began_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)

    def of_line(number: int) -> dict[str, object]:
        sent_at = began_at + timedelta(milliseconds=number)
        return {"message_id": f"{file.name}:{number}", "sent_at": sent_at.isoformat()}

    return of_line


def address(channel: str, user: int) -> str:
    """Make the address of an invented user, fit for the channel."""
    if channel in _PHONE_LIKE:
        return f"+1312555{user:04d}"
    if channel in _MAIL_LIKE:
        return f"user{user:04d}@example.com"
    return f"user{user:04d}"


def reader(file: Path, header: bytes | None = None) -> Callable[[bytes], Mapping[str, object]]:
    """Return a function from a line to its fields, which raises `CommandError`.

    `header`: the line of a .tsv that names the fields.
    """
    match file.suffix:
        case ".tsv" if header is not None:
            return partial(_from_columns, _named(header))
        case ".tsv":
            return lambda line: {"text": _decoded(line).rpartition("\t")[2]}
        case _ if header is not None:
            raise MisuseError("--header is for a .tsv file")
        case ".jsonl" | ".ndjson":
            return _from_json
        case _:
            raise MisuseError(f"{file.name}: give a .jsonl or .tsv file")


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise CommandError("the line is not UTF-8") from None


def _named(header: bytes) -> list[str]:
    from message_worker_client.envelope import Envelope  # noqa: PLC0415 - see above

    names, known = _decoded(header).split("\t"), set(Envelope.model_fields)
    if unknown := [name for name in names if name not in known]:
        raise MisuseError(f"the header names {', '.join(unknown)}: give {', '.join(sorted(known))}")
    return names


def _from_columns(names: Sequence[str], line: bytes) -> Mapping[str, object]:
    columns = _decoded(line).split("\t")
    if len(columns) != len(names):
        raise CommandError(f"{len(columns)} columns, and the header has {len(names)}")
    # An empty column is a field that is not given.
    return {name: column for name, column in zip(names, columns, strict=True) if column}


def _from_json(line: bytes) -> Mapping[str, object]:
    try:
        document = json.loads(_decoded(line))
    except RecursionError:
        raise CommandError("too many lists and objects inside each other") from None
    except ValueError:
        # `from None`: the original quotes the line.
        raise CommandError("the line is not JSON") from None
    if not isinstance(document, dict):
        raise CommandError("give an object")
    return document
