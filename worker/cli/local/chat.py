"""`worker chat`: one channel user, through the whole service: queue, worker, Telnyx, Postgres.

One loop and no threads: it waits a moment for the keyboard (or a pipe), then asks Postgres for
replies. So a reply appears when it lands, also in the middle of further questions.
"""

import os
import select
import sys
import time
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from worker.cli.console import escape_for_terminal, out, print_line, warn
from worker.cli.errors import CommandError
from worker.cli.local.embedded import EmbeddedServers
from worker.cli.local.service import service
from worker.cli.send.producer import OutcomeWatch, check, outcomes_in, producer
from worker.cli.settings import routing_of, settings_for
from worker.client import Outcome, Producer
from worker.domain.routing import Routing
from worker.envelope import VERSION

_LOOK_EVERY_S: Final = 0.1
_READ_BYTES: Final = 65_536


@dataclass(kw_only=True)
class Keyboard:
    """Lines of stdin, read without blocking for more than a moment."""

    descriptor: int
    ended: bool = False
    _rest: bytes = b""

    def lines(self, wait_s: float) -> list[str]:
        """Return the whole lines that have come by now; the last one may lack its newline."""
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
class ChatSession:
    """One person's side of the conversation."""

    person: dict[str, object]
    queue: Producer
    routing: Routing
    watch: OutcomeWatch
    _shown: set[int] = field(default_factory=set)

    def send_line(self, text: str) -> None:
        """Send one line; warn about one that the service would refuse."""
        envelope = {"version": VERSION, **self.person, "message_id": str(uuid4()), "text": text}
        try:
            key = check(envelope, self.routing)
        except CommandError as error:
            warn(f"not sent: {error}")
            return
        self.queue.send_many([envelope])
        self.watch.add(key)

    def listen(self) -> list[str]:
        """Return the replies that landed since; several messages may share one."""
        return [line for _, one in self.watch.look() if (line := self._line(one))]

    def _line(self, ended: Outcome) -> str | None:
        if ended.text is None or ended.turn is None:
            return f"[red]no reply: {ended.outcome}[/]"
        if ended.turn in self._shown:
            return None
        self._shown.add(ended.turn)
        return f"[cyan]service>[/] {escape_for_terminal(ended.text)}"


def run(person: dict[str, object], *, timeout_s: float) -> None:
    """Chat until the input ends and all is answered. Raises `CommandError`."""
    routing = routing_of(settings_for())
    # A wrong option of the command ends it before anything starts.
    check({"version": VERSION, "message_id": "-", "text": "-", **person}, routing)
    with (
        service(EmbeddedServers.not_configured()) as settings,
        producer(settings.broker_url) as queue,
        outcomes_in(settings.database_url) as outcomes,
    ):
        watch = OutcomeWatch(outcomes)
        chat = ChatSession(person=person, queue=queue, routing=routing, watch=watch)
        if out.is_terminal:
            user = escape_for_terminal(str(person["user"]))
            print_line(f"[dim]you are {user}; Ctrl-D ends the chat[/]")
        _converse(chat, Keyboard(descriptor=sys.stdin.fileno()), timeout_s)


def _converse(chat: ChatSession, keyboard: Keyboard, timeout_s: float) -> None:
    _prompt()
    waiting_since = time.monotonic()
    while not keyboard.ended or chat.watch.open:
        for line in filter(None, keyboard.lines(_LOOK_EVERY_S)):
            chat.send_line(line)
            waiting_since = time.monotonic()
        replies = chat.listen() if chat.watch.open else []
        for reply in replies:
            print_line(("\r" if out.is_terminal else "") + reply)
        if replies:
            _prompt()
        if chat.watch.open and time.monotonic() - waiting_since > timeout_s:
            raise CommandError(f"no reply within {timeout_s:g} s: see `worker status`")


def _prompt() -> None:
    if out.is_terminal:
        out.print("[green]you>[/] ", end="")
