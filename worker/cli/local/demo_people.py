"""The demo's other parts: a phone texts our number, opts out and comes back; a person mails us.

phone ─▶ Telnyx (simulated) ─webhook▶ gateway ─▶ worker ─▶ Telnyx ─▶ phone, and a receipt comes back
mail ─▶ TakeMail (as from a mailbox or a mail server) ─▶ worker ─SMTP▶ a file in the sandbox
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, TypeAlias

from message_worker_client import MessageKey, Outcome, Outcomes
from worker.bootstrap.reports import open_database
from worker.cli.console import escape_for_terminal, print_line
from worker.cli.errors import CommandError
from worker.cli.local.mail import MailProgram, text_of
from worker.cli.local.phone import OUR_NUMBER, PhoneNetwork, PhoneWatch
from worker.cli.local.service import until
from worker.cli.send.producer import OutcomeWatch
from worker.store.reports.message_history import MessageReports

FRED: Final = "+13125550104"
GINA: Final = "gina@example.org"
SUBJECT: Final = "Dinner tonight"
_LINES: Final = (
    "Do you have a table for two tonight?",
    "STOP",
    "Hello? Anybody there?",
    "START",
    "And tomorrow at eight?",
)
_ANSWERED: Final = (0, 4)
_QUESTION: Final = "Can I bring my dog?"
_FURTHER: Final = "Thanks! And is there a garden?"
_TIMEOUT_S: Final = 30.0

Check: TypeAlias = tuple[str, bool, str]
"""A promise, whether it was kept, and the state that was found instead."""


def play_phone(channel: str, outcomes: Outcomes, database_url: str) -> Iterator[Check]:
    """Play it, one message after the other, and check what came of it."""
    with PhoneNetwork.simulated() as network:
        arrived = partial(network.arrived, FRED)
        watch = PhoneWatch(arrived=arrived, watch=OutcomeWatch(outcomes))
        before = len(arrived())
        ended = [_exchange(network, watch, channel, line) for line in _LINES]
        came = len(arrived()) - before
    found = [outcome.outcome for _, outcome in ended]
    yield (
        f"{len(_LINES)} texts from a phone: after STOP nothing was answered until START",
        [place for place, one in enumerate(found) if one == "answered"] == list(_ANSWERED),
        f"outcomes {found}",
    )
    yield (
        f"{len(_ANSWERED)} answers: each reached the phone once",
        came == len(_ANSWERED),
        f"{came} messages came",
    )
    receipts = _receipts(database_url, [ended[place][0] for place in _ANSWERED])
    yield (
        "Telnyx's receipts came in any order, and each answer is marked as delivered",
        receipts == ["delivered"] * len(_ANSWERED),
        f"receipts {receipts}",
    )


def _exchange(
    network: PhoneNetwork, watch: PhoneWatch, channel: str, text: str
) -> tuple[MessageKey, Outcome]:
    print_line(f"phone {FRED}: {escape_for_terminal(text)}")
    message_id = network.text(FRED, OUR_NUMBER, text)
    watch.watch.add(
        MessageKey(channel=channel, recipient=OUR_NUMBER, user=FRED, message_id=message_id)
    )
    ended = until(watch.look, _TIMEOUT_S)
    if not ended:
        raise CommandError(f"a text message has no outcome after {_TIMEOUT_S:g} s")
    outcome = ended[0][1]
    if outcome.text is None:
        print_line(f"      [dim]no answer: {outcome.outcome}[/]")
    else:
        print_line(f"      [cyan]{escape_for_terminal(outcome.text)}[/]")
    return ended[0]


def _receipts(database_url: str, keys: Sequence[MessageKey]) -> list[str | None]:
    """Return what was reported of these answers, once all is or it takes too long."""
    with open_database(database_url) as database:
        receipt = partial(_receipt, MessageReports(database))
        until(lambda: all(receipt(key) == "delivered" for key in keys), _TIMEOUT_S)
        return list(map(receipt, keys))


def _receipt(reports: MessageReports, key: MessageKey) -> str | None:
    (message,) = reports.by_address(key.channel, [(key.user, key.message_id)])
    history = reports.read(message.id)
    return history.delivery.receipt if history and history.delivery else None


def write(program: MailProgram, text: str = _QUESTION) -> None:
    """Write a mail; by default that which begins the thread."""
    print_line(f"mail from {GINA}: {escape_for_terminal(text)}")
    program.write(text)


def end_thread(program: MailProgram) -> Iterator[Check]:
    """Answer what came, wait for the reply, and check the whole."""
    _show_reply(program, 1)
    write(program, _FURTHER)
    program.send_again()
    _show_reply(program, 2)
    mails = [one for _, one in program.mails()]
    heads = [(str(one["Subject"]), str(one["In-Reply-To"])) for one in mails]
    said = text_of(mails[-1])
    yield (
        "2 mails, one came twice: one answer each, in one thread, to what is not quoted",
        heads == [(f"Re: {SUBJECT}", one) for one in program.sent]
        and _FURTHER in said
        and _QUESTION not in said,
        f"subjects and In-Reply-To {heads}, the last answer {said!r}",
    )


def _show_reply(program: MailProgram, number: int) -> None:
    if not until(lambda: len(program.arrived()) >= number, _TIMEOUT_S):
        raise CommandError(f"a mail has no answer after {_TIMEOUT_S:g} s")
    print_line(f"mail to {GINA}: [cyan]{escape_for_terminal(program.arrived()[number - 1][1])}[/]")
