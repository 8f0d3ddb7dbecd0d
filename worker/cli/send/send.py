"""`worker send`: one message from flags, or a file of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

from worker.cli.console import escape_for_terminal, print_json, print_line, progress_bar, warn
from worker.cli.errors import MISUSED, CommandError
from worker.cli.send.message_file import (
    FileLine,
    Spread,
    address,
    count_lines,
    identity,
    read_lines,
    user_of_line,
)
from worker.cli.send.producer import check, producer
from worker.cli.send.wait import OutcomeWatch, count_outcomes, outcomes_in, wait_for_all
from worker.cli.settings import routing_of, settings_for
from worker.client import MessageKey
from worker.config.settings import Settings
from worker.domain.routing import Routing
from worker.envelope import VERSION

_FAULTS_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """How the lines of a file become messages."""

    text_column: int | None
    users: int | None
    """Spread the lines over this number of invented users; None = the line or a flag names one."""
    spread: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishOptions:
    """What follows when everything is sent. `timeout_s`: of `wait`."""

    wait: bool
    timeout_s: float
    as_json: bool


@dataclass(kw_only=True)
class FileSend:
    """One run over a file: the messages that go out, and the lines that do not."""

    file: Path
    options: FileOptions
    flags: Mapping[str, object]
    routing: Routing
    keys: list[MessageKey] = field(default_factory=list)
    refused: int = 0

    def envelopes(self) -> Iterator[dict[str, object]]:
        """Return the valid envelopes, a line at a time; warn about each other line."""
        of_line = identity(self.file)
        with progress_bar("sending", count_lines(self.file)) as tick:
            for line in read_lines(self.file, text_column=self.options.text_column):
                tick(1)
                try:
                    envelope = self._completed(line, of_line(line.number))
                    self.keys.append(check(envelope, self.routing))
                except CommandError as error:
                    self._refuse(line, str(error))
                else:
                    yield envelope

    def _completed(self, line: FileLine, of_line: Mapping[str, object]) -> dict[str, object]:
        """Complete a line: its own fields win, then the flags, then what its number determines."""
        if line.fault:
            raise CommandError(line.fault)
        envelope = {"version": VERSION, **of_line, **self.flags, **line.fields}
        users = self.options.users
        if "user" not in envelope and users is not None:
            number = user_of_line(line.number, users=users, spread=self.options.spread)
            envelope["user"] = address(str(envelope.get("channel", "")), number)
        return envelope

    def _refuse(self, line: FileLine, fault: str) -> None:
        """Warn about a line that is not sent; after a while only count."""
        self.refused += 1
        if self.refused <= _FAULTS_SHOWN:
            warn(f"{self.file.name}: line {line.number}: {fault}")
        elif self.refused == _FAULTS_SHOWN + 1:
            warn("more lines have faults, from here on they are only counted")


def send_one(flags: Mapping[str, object], after: FinishOptions) -> None:
    """Send one message and print its id; with `wait`, its reply too."""
    settings = _settings(after)
    # A message without an id gets one.
    envelope = {"version": VERSION, "message_id": str(uuid4()), **flags}
    try:
        key = check(envelope, routing_of(settings))
    except CommandError as error:
        raise CommandError(f"not sent: {error}", exit_code=MISUSED) from None
    with producer(settings.broker_url) as queue:
        queue.send_many([envelope])
    if not after.as_json:
        print_line(f"sent, message_id {escape_for_terminal(key.message_id)}")
    _finish(settings, [key], after, {"sent": 1, "message_id": key.message_id})


def send_file(
    file: Path, options: FileOptions, flags: Mapping[str, object], after: FinishOptions
) -> None:
    """Send a file's lines; a line that is no valid envelope is named and the others go on."""
    settings = _settings(after)
    run = FileSend(file=file, options=options, flags=flags, routing=routing_of(settings))
    with producer(settings.broker_url) as queue:
        queue.send_many(run.envelopes())
    if not after.as_json:
        print_line(f"{len(run.keys)} sent, {run.refused} not sent")
    _finish(settings, run.keys, after, {"sent": len(run.keys), "not_sent": run.refused})
    if run.refused:
        raise CommandError(f"{run.refused} lines of {file.name} were not sent")


def _settings(after: FinishOptions) -> Settings:
    return settings_for("broker_url", "database_url") if after.wait else settings_for("broker_url")


def _finish(
    settings: Settings, keys: list[MessageKey], after: FinishOptions, report: dict[str, object]
) -> None:
    """Wait if asked to, and print. Raises `CommandError` if some have no outcome in time."""
    if not after.wait:
        if after.as_json:
            print_json(report)
        return
    with outcomes_in(settings.database_url) as outcomes:
        watch = OutcomeWatch(outcomes, keys)
        ended = wait_for_all(watch, timeout_s=after.timeout_s)
    counts = count_outcomes(ended)
    reply = ended[0].text if len(keys) == 1 and ended else None
    if after.as_json:
        waited = {"outcomes": counts, "without_outcome": len(watch.open)}
        print_json(report | waited | ({"reply": reply} if len(keys) == 1 else {}))
    else:
        print_line(", ".join(f"{n} {name}" for name, n in counts.items()) or "no outcome yet")
        if reply is not None:
            print_line(f"reply: {escape_for_terminal(reply)}")
    if watch.open:
        raise CommandError(
            f"{len(watch.open)} without an outcome after {after.timeout_s:g} s. `worker status` "
            "shows whether a worker is alive, and the messages it could not accept: dead letters"
        )
