"""A chat in the terminal: through the queue, as a phone, or by mail.

One loop and no threads: it waits a moment for the keyboard (or a pipe), then asks Postgres for
replies. So a reply appears when it lands, also in the middle of further questions. On a terminal,
readline takes over at the first key of a line, until Enter.
"""

import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Final
from uuid import uuid4

from rich.control import Control
from rich.segment import ControlType

from message_worker_client import MessageKey, Outcome, Producer
from worker.cli.console import escape_for_terminal, out, print_line
from worker.cli.errors import CommandError
from worker.cli.local.mail import MailProgram, mail_channel
from worker.cli.local.phone import OUR_NUMBER, PhoneNetwork, PhoneWatch
from worker.cli.local.service import not_configured, service
from worker.cli.send.producer import OutcomeWatch, check, outcomes_in, producer
from worker.cli.text import warn
from worker.config.agents_file import load_agents
from worker.config.settings import is_configured, settings_for
from worker.domain.routing import Routing
from worker.observability.logs import configure_logging

_LOOK_EVERY_S: Final = 0.1
_READ_BYTES: Final = 65_536
_PROMPT: Final = "you> "
_THEY: Final = "service> "
_START_OF_LINE: Final = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))


def by_queue(fields: Mapping[str, object], timeout_s: float) -> None:
    """Chat as a producer does; `fields`: those of each envelope."""
    routing = load_agents(settings_for().agents_file)[0]
    # A wrong option of the command ends it before anything starts.
    check({"message_id": "-", "text": "-", **fields}, routing)
    with (
        service(not_configured()) as settings,
        producer(settings.broker_url) as queue,
        outcomes_in(settings.database_url) as outcomes,
    ):
        watch = OutcomeWatch(outcomes)
        send_line = partial(_send_line, queue, watch, fields, routing)
        converse(f"you are {fields['user']}", send_line, watch, timeout_s)


def by_phone(number: str, recipient: str, timeout_s: float) -> None:
    """Text our number from a phone of the simulated network, and show what comes back to it."""
    recipient = recipient or OUR_NUMBER
    with (
        service(not_configured()) as settings,
        outcomes_in(settings.database_url) as outcomes,
        PhoneNetwork.simulated() as network,
    ):
        policy = load_agents(settings.agents_file)[0].telnyx_policy()
        if policy is None:
            raise CommandError('no channel of the agents file has driver = "telnyx"')
        inner = OutcomeWatch(outcomes)
        watch = PhoneWatch(arrived=partial(network.arrived, number), watch=inner)

        def send_line(text: str) -> None:
            message_id = network.text(number, recipient, text)
            key = {"channel": policy.name, "recipient": recipient, "user": number}
            inner.add(MessageKey(**key, message_id=message_id))

        converse(f"you text {recipient} from {number}", send_line, watch, timeout_s)


def by_mail(person: str, timeout_s: float) -> None:
    """Write mails from an address, and show what comes back to it."""
    configure_logging("WARNING")
    leaves = is_configured("SMTP_URL")
    with service(not_configured()):
        settings = settings_for("database_url", "namespace")
        routing = load_agents(settings.agents_file)[0]
        channel = mail_channel(routing)
        if channel is None:
            raise CommandError('no channel of the agents file has driver = "smtp"')
        # Of a sandbox, the environment has it by now.
        if leaves or not is_configured("SMTP_URL"):
            raise CommandError("mails leave by SMTP_URL: use your own mail program, or unset it")
        opened = MailProgram.opened(
            channel, person=person, subject="A question", routing=routing, settings=settings
        )
        with opened as program, outcomes_in(settings.database_url) as outcomes:
            inner = OutcomeWatch(outcomes)
            watch = PhoneWatch(arrived=program.arrived, watch=inner)
            who = f"you write to {channel.address} from {person}"
            converse(who, lambda text: inner.add(program.write(text)), watch, timeout_s)


def _send_line(
    queue: Producer,
    watch: OutcomeWatch,
    fields: Mapping[str, object],
    routing: Routing,
    text: str,
) -> None:
    """Send one line; warn about one that the service would refuse."""
    envelope = {**fields, "message_id": str(uuid4()), "text": text}
    try:
        key = check(envelope, routing)
    except CommandError as error:
        warn(f"not sent: {error}")
        return
    queue.send_many([envelope])
    watch.add(key)


@dataclass(kw_only=True)
class Keyboard:
    """Lines of stdin, read without blocking for more than a moment."""

    descriptor: int
    edits: bool = False
    """Whether readline reads a line, once its first key is there."""
    ended: bool = False
    _rest: bytes = b""

    def lines(self, wait_s: float) -> list[str]:
        """Return the whole lines that have come by now; the last one may lack its newline."""
        if self.ended:
            time.sleep(wait_s)
            return []
        if not select.select([self.descriptor], [], [], wait_s)[0]:
            return []
        if self.edits:
            return self._edited()
        read = os.read(self.descriptor, _READ_BYTES)
        self.ended = not read
        *whole, self._rest = (self._rest + read).split(b"\n")
        if self.ended and self._rest:
            whole.append(self._rest)
        return [line.decode(errors="replace").strip() for line in whole]

    def _edited(self) -> list[str]:
        out.control(_START_OF_LINE)
        try:
            return [input(_PROMPT).strip()]
        except EOFError:
            self.ended = True
            return []


@contextmanager
def _keyboard() -> Iterator[Keyboard]:
    """Open stdin; a terminal passes on each key at once meanwhile, and does not show it."""
    descriptor = sys.stdin.fileno()
    if not (out.is_terminal and sys.stdin.isatty() and find_spec("readline")):
        yield Keyboard(descriptor=descriptor)
        return
    import readline  # noqa: F401, PLC0415 - `input` uses it if it is imported
    import termios  # noqa: PLC0415 - not on every system
    import tty  # noqa: PLC0415

    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor, termios.TCSADRAIN)
    try:
        yield Keyboard(descriptor=descriptor, edits=True)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def converse(
    who: str,
    send_line: Callable[[str], None],
    watch: OutcomeWatch | PhoneWatch,
    timeout_s: float,
) -> None:
    """Chat until the input ends and all is answered; `who`: what a terminal is told first."""
    if out.is_terminal:
        print_line(f"[dim]{escape_for_terminal(who)}; Ctrl-D ends the chat[/]")
    shown: set[int] = set()
    with _keyboard() as keyboard:
        _prompt()
        waiting_since = time.monotonic()
        while not keyboard.ended or watch.open:
            for line in filter(None, keyboard.lines(_LOOK_EVERY_S)):
                send_line(line)
                waiting_since = time.monotonic()
            ended = watch.look() if watch.open else []
            replies = [reply for _, one in ended if (reply := _reply(one, shown))]
            for reply in replies:
                if out.is_terminal:
                    out.control(_START_OF_LINE)
                print_line(reply)
            if replies:
                _prompt()
            if watch.open and time.monotonic() - waiting_since > timeout_s:
                raise CommandError(f"no reply within {timeout_s:g} s: see `worker status`")


def _reply(ended: Outcome, shown: set[int]) -> str | None:
    """Return what to print; None if its turn is `shown`: several messages may share a reply."""
    if ended.text is None or ended.turn is None:
        why = f", {escape_for_terminal(ended.detail)}" if ended.detail else ""
        return f"[red]no reply: {ended.outcome}{why}[/]"
    if ended.turn in shown:
        return None
    shown.add(ended.turn)
    first, *more = map(escape_for_terminal, ended.text.splitlines() or [""])
    return "\n".join([f"[cyan]{_THEY}[/]{first}", *(f"{'':{len(_THEY)}}{line}" for line in more)])


def _prompt() -> None:
    if out.is_terminal:
        out.print(_PROMPT, end="")
