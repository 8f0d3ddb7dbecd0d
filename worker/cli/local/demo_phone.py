"""The demo's second part: a phone texts our number, opts out, and comes back.

phone ─▶ Telnyx (simulated) ─webhook▶ gateway ─▶ worker ─▶ Telnyx ─▶ phone, and a receipt comes back
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from message_worker_client import MessageKey, Outcome, Outcomes
from worker.bootstrap.reports import open_database
from worker.cli.console import escape_for_terminal, print_line
from worker.cli.errors import CommandError
from worker.cli.local.phone import OUR_NUMBER, PhoneNetwork, PhoneWatch
from worker.cli.send.producer import OutcomeWatch
from worker.store.reports.message_history import MessageReports

FRED: Final = "+13125550104"
_LINES: Final = (
    "Do you have a table for two tonight?",
    "STOP",
    "Hello? Anybody there?",
    "START",
    "And tomorrow at eight?",
)
_ANSWERED: Final = (0, 4)
_TIMEOUT_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.08

Check: TypeAlias = tuple[str, bool, str]
"""A promise, whether it was kept, and the state that was found instead."""


@dataclass(frozen=True, slots=True)
class _Ended:
    key: MessageKey
    outcome: Outcome


def play_phone(channel: str, outcomes: Outcomes, database_url: str) -> Iterator[Check]:
    """Play it, one message after the other, and check what came of it."""
    with PhoneNetwork.simulated() as network:
        inner = OutcomeWatch(outcomes)
        watch = PhoneWatch(network=network, number=FRED, watch=inner)
        before = len(network.arrived(FRED))
        ended = [_exchange(network, watch, channel, line) for line in _LINES]
        came = len(network.arrived(FRED)) - before
    answered = [place for place, one in enumerate(ended) if one.outcome.outcome == "answered"]
    yield (
        f"{len(_LINES)} texts from a phone: after STOP nothing was answered until START",
        answered == list(_ANSWERED),
        f"outcomes {[one.outcome.outcome for one in ended]}",
    )
    yield (
        f"{len(_ANSWERED)} answers: each reached the phone once",
        came == len(_ANSWERED),
        f"{came} messages came",
    )
    receipts = _receipts(database_url, [ended[place].key for place in _ANSWERED])
    yield (
        "Telnyx's receipts came in any order, and each answer is marked as delivered",
        receipts == ["delivered"] * len(_ANSWERED),
        f"receipts {receipts}",
    )


def _exchange(network: PhoneNetwork, watch: PhoneWatch, channel: str, text: str) -> _Ended:
    print_line(f"phone {FRED}: {escape_for_terminal(text)}")
    message_id = network.text(FRED, OUR_NUMBER, text)
    watch.watch.add(
        MessageKey(channel=channel, recipient=OUR_NUMBER, user=FRED, message_id=message_id)
    )
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        for key, outcome in watch.look():
            said = outcome.text
            shown = f"no answer: {outcome.outcome}" if said is None else escape_for_terminal(said)
            print_line(f"      [dim]{shown}[/]" if said is None else f"      [cyan]{shown}[/]")
            return _Ended(key, outcome)
        time.sleep(_LOOK_EVERY_S)
    raise CommandError(f"a text message has no outcome after {_TIMEOUT_S:g} s")


def _receipts(database_url: str, keys: Sequence[MessageKey]) -> list[str | None]:
    """Return what was reported of these answers, once all is or it takes too long."""
    deadline = time.monotonic() + _TIMEOUT_S
    with open_database(database_url) as database:
        reports = MessageReports(database)
        while True:
            found = [_receipt(reports, key) for key in keys]
            if all(one == "delivered" for one in found) or time.monotonic() > deadline:
                return found
            time.sleep(_LOOK_EVERY_S)


def _receipt(reports: MessageReports, key: MessageKey) -> str | None:
    (message,) = reports.by_address(key.channel, [(key.user, key.message_id)])
    history = reports.read(message.id)
    return history.delivery.receipt if history and history.delivery else None
