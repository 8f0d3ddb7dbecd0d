"""`worker send`: one message from flags, or a file of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

from worker.cli.console import escape_for_terminal, print_json, print_line, progress_bar, warn
from worker.cli.errors import MISUSED, CommandError
from worker.cli.send.message_file import (
    Line,
    Spread,
    address,
    count_lines,
    identity,
    read_lines,
    user_of_line,
)
from worker.cli.send.producer import Producer, producer
from worker.cli.send.wait import OutcomeWatch, replies_in, wait_for_all
from worker.cli.settings import routing_of, settings_for
from worker.config.settings import Settings
from worker.domain.routing import Routing
from worker.envelope import VERSION, EnvelopeError, parse_envelope
from worker.handlers.intake.channel_address import channel_address
from worker.store.reports.outcomes import MessageKey

_FAULTS_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOrder:
    """Which file, and how its lines become messages."""

    file: Path
    text_column: int | None
    users: int | None
    """Spread the lines over so many invented users; None = each line or the flags name one."""
    spread: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """What to do when everything is sent."""

    wait: bool
    timeout_s: float
    as_json: bool


@dataclass(kw_only=True)
class Sent:
    """What went out, and what did not."""

    keys: list[MessageKey] = field(default_factory=list)
    refused: int = 0

    def refuse(self, place: str, fault: str) -> None:
        """Name a line that is not sent, and its fault; after a while only count them."""
        self.refused += 1
        if self.refused <= _FAULTS_SHOWN:
            warn(f"{place}: {fault}")
        elif self.refused == _FAULTS_SHOWN + 1:
            warn("more lines have faults, from here on they are only counted")


def check(envelope: Mapping[str, object], routing: Routing) -> MessageKey:
    """Check an envelope as a worker does; give what finds its row. Raises `EnvelopeError`."""
    parsed = parse_envelope(envelope)
    who = channel_address(parsed, routing.channel(parsed.channel).kind)
    return MessageKey(who=who, message_id=parsed.message_id)


def send_one(envelope: Mapping[str, object], after: After) -> None:
    """Send one message and print its id; when told to wait, its reply too."""
    settings = _settings(after)
    try:
        key = check(envelope, routing_of(settings))
    except EnvelopeError as error:
        raise CommandError(f"not sent: {error}", exit_code=MISUSED) from None
    with producer(settings.broker_url) as queue:
        queue.send(envelope)
    if not after.as_json:
        print_line(f"sent, message_id {escape_for_terminal(key.message_id)}")
    _finish(settings, [key], after, {"sent": 1, "message_id": key.message_id})


def send_file(order: FileOrder, flags: Mapping[str, object], after: After) -> None:
    """Send a file's lines; one that is no valid envelope is named and the others go on."""
    settings = _settings(after)
    routing = routing_of(settings)
    sent = Sent()
    with producer(settings.broker_url) as queue:
        _send_lines(queue, order, flags, routing, sent)
    if not after.as_json:
        print_line(f"{len(sent.keys)} sent, {sent.refused} not sent")
    _finish(settings, sent.keys, after, {"sent": len(sent.keys), "not_sent": sent.refused})
    if sent.refused:
        raise CommandError(f"{sent.refused} lines of {order.file.name} were not sent")


def _settings(after: After) -> Settings:
    return settings_for("broker_url", "database_url") if after.wait else settings_for("broker_url")


def _send_lines(
    queue: Producer, order: FileOrder, flags: Mapping[str, object], routing: Routing, sent: Sent
) -> None:
    with progress_bar("sending", count_lines(order.file)) as tick:
        for line, envelope in _envelopes(order, flags):
            tick(1)
            try:
                key = check(envelope, routing) if not line.fault else None
            except EnvelopeError as error:
                sent.refuse(f"{order.file.name}: line {line.number}", str(error))
                continue
            if key is None:
                sent.refuse(f"{order.file.name}: line {line.number}", line.fault)
                continue
            queue.send(envelope)
            sent.keys.append(key)


def _envelopes(
    order: FileOrder, flags: Mapping[str, object]
) -> Iterator[tuple[Line, dict[str, object]]]:
    """Complete each line: its own fields win, then the flags, then what its number gives."""
    of_line = identity(order.file)
    for line in read_lines(order.file, text_column=order.text_column):
        envelope = {"version": VERSION, **of_line(line.number), **flags, **line.fields}
        if "user" not in envelope and order.users is not None:
            number = user_of_line(line.number, users=order.users, spread=order.spread)
            envelope["user"] = address(str(envelope.get("channel", "")), number)
        yield line, envelope


def _finish(
    settings: Settings, keys: list[MessageKey], after: After, report: dict[str, object]
) -> None:
    """Wait if told to, and print. Raises `CommandError` where some have no outcome in time."""
    if not after.wait:
        if after.as_json:
            print_json(report)
        return
    with replies_in(settings.database_url) as replies:
        watch = OutcomeWatch(replies, keys)
        outcomes = wait_for_all(watch, timeout_s=after.timeout_s)
        found = replies.find(keys) if len(keys) == 1 else []
    reply = found[0].reply if found else None
    if after.as_json:
        waited = {"outcomes": outcomes, "without_outcome": len(watch.open)}
        print_json(report | waited | ({"reply": reply} if found else {}))
    else:
        print_line(
            ", ".join(f"{count} {name}" for name, count in outcomes.items()) or "no outcome yet"
        )
        if reply is not None:
            print_line(f"reply: {escape_for_terminal(reply)}")
    if watch.open:
        raise CommandError(
            f"{len(watch.open)} without an outcome after {after.timeout_s:g} s. `worker status` "
            "shows whether a worker is alive, and dead letters: what it could not accept"
        )


def envelope_of(flags: Mapping[str, object]) -> dict[str, object]:
    """Make an envelope of flags; a message without an id gets one."""
    return {"version": VERSION, "message_id": str(uuid4()), **flags}
