"""`worker chat`: one channel user, through the whole service: queue, worker, Telnyx, Postgres.

One loop and no threads: it waits for the keyboard (or a pipe) for a moment, then asks Postgres for
replies. So a reply is shown when it lands, also in the middle of further questions.
"""

import os
import select
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from worker.cli.console import escape_for_terminal, out, print_line, warn
from worker.cli.errors import MISUSED, CommandError
from worker.cli.local.embedded import Parts
from worker.cli.local.service import service
from worker.cli.send.producer import producer
from worker.cli.send.send import check
from worker.cli.send.wait import OutcomeWatch, replies_in
from worker.cli.settings import routing_of, settings_for
from worker.domain.ids import TurnId
from worker.domain.routing import Routing
from worker.envelope import VERSION, EnvelopeError
from worker.store.reports.outcomes import Progress

_LOOK_EVERY_S: Final = 0.1
_READ_BYTES: Final = 65_536


@dataclass(kw_only=True)
class Keyboard:
    """Lines of stdin, taken without waiting for more than a moment."""

    descriptor: int
    ended: bool = False
    _rest: bytes = b""

    def lines(self, wait_s: float) -> list[str]:
        """Give the whole lines that have come by now; the last one may lack its newline."""
        if self.ended:
            time.sleep(wait_s)
            return []
        if not select.select([self.descriptor], [], [], wait_s)[0]:
            return []
        read = os.read(self.descriptor, _READ_BYTES)
        self.ended = not read
        *whole, self._rest = (self._rest + read).split(b"\n")
        if self.ended and self._rest:
            whole.append(self._rest)
        return [line.decode(errors="replace").strip() for line in whole]


@dataclass(kw_only=True)
class Talk:
    """One person's side of the conversation."""

    person: dict[str, object]
    send: Callable[[dict[str, object]], None]
    routing: Routing
    watch: OutcomeWatch
    _shown: set[TurnId] = field(default_factory=set)

    def send_line(self, text: str) -> None:
        """Send one line; one that the service would refuse is named and not sent."""
        envelope = {"version": VERSION, **self.person, "message_id": str(uuid4()), "text": text}
        try:
            key = check(envelope, self.routing)
        except EnvelopeError as error:
            warn(f"not sent: {error}")
            return
        self.send(envelope)
        self.watch.add(key)

    def listen(self) -> list[str]:
        """Give the replies that landed since; several messages may share one."""
        return [line for one in self.watch.look() if (line := self._line(one))]

    def _line(self, ended: Progress) -> str | None:
        if ended.reply is None or ended.turn_id is None:
            return f"[red]no reply: {ended.outcome}[/]"
        if ended.turn_id in self._shown:
            return None
        self._shown.add(ended.turn_id)
        return f"[cyan]service>[/] {escape_for_terminal(ended.reply)}"


def run(person: dict[str, object], *, timeout_s: float) -> None:
    """Talk until the input ends and all is answered. Raises `CommandError`."""
    routing = routing_of(settings_for())
    _check_person(person, routing)
    with (
        service(Parts.not_configured()) as settings,
        producer(settings.broker_url) as queue,
        replies_in(settings.database_url) as replies,
    ):
        watch = OutcomeWatch(replies)
        talk = Talk(person=person, send=queue.send, routing=routing, watch=watch)
        if out.is_terminal:
            print_line(
                f"[dim]you are {escape_for_terminal(str(person['user']))}; Ctrl-D ends the talk[/]"
            )
        _converse(talk, Keyboard(descriptor=sys.stdin.fileno()), timeout_s)


def _check_person(person: dict[str, object], routing: Routing) -> None:
    try:
        check({"version": VERSION, "message_id": "-", "text": "-", **person}, routing)
    except EnvelopeError as error:
        raise CommandError(str(error), exit_code=MISUSED) from None


def _converse(talk: Talk, keyboard: Keyboard, timeout_s: float) -> None:
    _prompt()
    waiting_since = time.monotonic()
    while not keyboard.ended or talk.watch.open:
        for line in filter(None, keyboard.lines(_LOOK_EVERY_S)):
            talk.send_line(line)
            waiting_since = time.monotonic()
        replies = talk.listen() if talk.watch.open else []
        for reply in replies:
            print_line(("\r" if out.is_terminal else "") + reply)
        if replies:
            _prompt()
        if talk.watch.open and time.monotonic() - waiting_since > timeout_s:
            raise CommandError(f"no reply within {timeout_s:g} s: see `worker status`")


def _prompt() -> None:
    if out.is_terminal:
        out.print("[green]you>[/] ", end="")
