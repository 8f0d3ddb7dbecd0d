"""`worker demo`: a short script of messages through the whole service, then the proof.

It always uses the sandbox of this folder, whatever the environment configures: a demo must not
write to somebody's Postgres or spend their credit at Telnyx.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Final

from message_worker_client import MessageKey, Outcome, Outcomes, Producer
from message_worker_client.envelope.wire import INBOUND
from worker.bootstrap.reports import open_database
from worker.cli.console import escape_for_terminal, print_line
from worker.cli.errors import CommandError
from worker.cli.local.demo_people import GINA, SUBJECT, Check, end_thread, play_phone, write
from worker.cli.local.demo_view import CAROL, SCRIPT, DemoView
from worker.cli.local.mail import MailProgram, mail_channel
from worker.cli.local.service import SERVERS, TRY_IT, as_typed, attached, service, until
from worker.cli.send.producer import OutcomeWatch, broker_is_away, check, outcomes_in, producer
from worker.config.agents_file import load_agents
from worker.config.settings import Settings, sandbox_dir
from worker.domain.errors import BrokerAwayError
from worker.domain.routing import Routing
from worker.observability.logs import configure_logging
from worker.queue.waiting import waiting_entries
from worker.sandbox.simulator import overlaps, read_log
from worker.sandbox.simulator.record.log import Entry, user_texts
from worker.store.reports.conversations import ConversationReports, LandedTurn

_TIMEOUT_S: Final = 45.0
_DRAIN_TIMEOUT_S: Final = 5.0
_CONNECTIONS: Final = ("DATABASE_URL", "BROKER_URL", "TELNYX_API_KEY", "TELNYX_BASE_URL")
_OTHERS: Final = ("NAMESPACE", "PUBLIC_URL", "SMTP_URL", "SMTP_TOKEN_COMMAND", "IMAP_URL")


def run() -> None:
    """Play, watch, check. Raises `CommandError` if a promise was not kept."""
    began = time.monotonic()
    configure_logging("WARNING")
    for name in (*_CONNECTIONS, *_OTHERS):
        os.environ.pop(name, None)
        os.environ.pop(f"{name}_FILE", None)
    was_running = attached()
    if was_running and not all(name in os.environ for name in _CONNECTIONS):
        raise CommandError(
            "the sandbox that runs in this folder uses servers of your own: stop it, or set "
            "SANDBOX_DIR to another folder"
        )
    with (
        service(SERVERS) as settings,
        producer(settings.broker_url) as queue,
        outcomes_in(settings.database_url) as outcomes,
    ):
        print_line(f"The service runs ({time.monotonic() - began:.1f} s). Messages go out:\n")
        routing = load_agents(settings.agents_file)[0]
        view = _play(queue, outcomes, routing)
        _await_empty_queue(settings.broker_url)
        checks = [*_found(view, settings.database_url), *_people(outcomes, routing, settings)]
        _prove(view, checks)
        print_line(
            f"\n[green]All promises were kept[/], {time.monotonic() - began:.1f} s in all.\n"
        )
    _print_commands(escape_for_terminal(as_typed()), was_running=was_running)


def _people(outcomes: Outcomes, routing: Routing, settings: Settings) -> Iterator[Check]:
    """Play what people with a mail program and with a phone see, if there are such channels."""
    with ExitStack() as stack:
        program = None
        # A service that has a mail server of its own would send to it.
        if (mails := mail_channel(routing)) is not None and "SMTP_URL" in os.environ:
            print_line("\nSomebody writes us a mail:\n")
            opened = MailProgram.opened(
                mails, person=GINA, subject=SUBJECT, routing=routing, settings=settings
            )
            program = stack.enter_context(opened)
            write(program)
        if (texting := routing.telnyx_policy()) is not None:
            print_line("\nSomebody texts our number:\n")
            yield from play_phone(texting.name, outcomes, settings.database_url)
        if program is not None:
            print_line()
            yield from end_thread(program)


def _print_commands(worker: str, *, was_running: bool) -> None:
    print_line("Talk to it yourself, with --sms as a phone, with --mail by mail:")
    print_line(f"  {worker} chat")
    if not was_running:
        print_line("Start the service here, with Flower to watch it (Ctrl-C stops it):")
        print_line(f"  {worker} up")
        print_line("While it runs, in a second terminal in this folder:")
    else:
        print_line("Send a message, see what the service does:")
    print_line(f"  {worker} {TRY_IT}")
    print_line(f"  {worker} status")
    print_line("The fields of a message that your own program sends:")
    print_line(f"  {worker} schema envelope")


def _play(queue: Producer, outcomes: Outcomes, routing: Routing) -> DemoView:
    """Send the script, some of it twice, until everything has its outcome."""
    view, watch = DemoView(), OutcomeWatch(outcomes)
    began_at = datetime.now(UTC)
    with view.shown():
        for place, line in enumerate(SCRIPT):
            if line.after_reply:
                _await_replies(view, watch, of=line.user)
            # The time on each message keeps them in order.
            envelope = line.envelope(began_at + timedelta(milliseconds=place))
            key = check(envelope, routing)
            queue.send_many([envelope] * (2 if line.again else 1))
            view.send(key, line)
            watch.add(key)
            time.sleep(line.pause_s)
        _await_replies(view, watch)
    return view


def _await_replies(view: DemoView, watch: OutcomeWatch, *, of: str | None = None) -> None:
    """Wait until every message, or every one of this person, has its outcome."""

    def have_ended() -> bool:
        view.land(watch.look())
        return not any(of in {None, key.user} for key in watch.open)

    if not until(have_ended, _TIMEOUT_S):
        raise CommandError(
            f"{len(watch.open)} of {len(SCRIPT)} messages have no outcome after "
            f"{_TIMEOUT_S:g} s: see {sandbox_dir() / 'logs'}"
        )


def _await_empty_queue(broker_url: str) -> None:
    """Wait until the repetition is worked too, but not long: others may send as well."""
    try:
        until(lambda: not any(waiting_entries(broker_url, [INBOUND]).values()), _DRAIN_TIMEOUT_S)
    except BrokerAwayError as error:
        raise broker_is_away(error, broker_url) from error


def _found(view: DemoView, database_url: str) -> Iterator[Check]:
    keys = list(view.sent)
    with Outcomes(database_url) as outcomes, open_database(database_url) as database:
        rows = outcomes.by_key(keys)
        members = Counter(outcome.turn for _, outcome in rows if outcome.turn is not None)
        turns = ConversationReports(database).landed_beside(set(members))
    twice = [key for key, line in view.sent.items() if line.again]
    log = read_log(sandbox_dir() / "simulator" / "telnyx.jsonl")
    yield from _of_tables(keys, rows, members, turns, twice)
    yield from _of_telnyx(turns, log)


def _prove(view: DemoView, checks: Sequence[Check]) -> None:
    print_line()
    for promise, kept, found in checks:
        print_line(f"[green]✓[/] {promise}" if kept else f"[red]✗ {promise}[/]: {found}")
    burst = [view.ended[key].turn for key, line in view.sent.items() if line.user == CAROL]
    print_line(
        f"[green]✓[/] a burst of {len(burst)} messages was answered in {len(set(burst))} turn(s)"
    )
    if not all(kept for _, kept, _ in checks):
        raise CommandError("the demo found a broken promise: please report it")


def _of_tables(
    keys: Sequence[MessageKey],
    rows: Sequence[tuple[MessageKey, Outcome]],
    members: Counter[int],
    turns: Sequence[LandedTurn],
    twice: Sequence[MessageKey],
) -> Iterator[Check]:
    answered = [key for key, one in rows if one.outcome == "answered" and one.turn is not None]
    yield (
        f"{len(keys)} messages: one row, one turn and one outcome each",
        answered == list(keys),
        f"{len(rows)} rows, outcomes {dict(Counter(one.outcome for _, one in rows))}",
    )
    ours = [turn for turn in turns if turn.id in members]
    wrong = [turn.id for turn in ours if turn.replies != 1 or turn.messages != members[turn.id]]
    yield (
        f"{len(ours)} turns: one reply each",
        not wrong and len(ours) == len(members),
        f"turns {wrong} have other numbers of replies or messages; {len(ours)} landed",
    )
    seen = Counter(key for key, _ in rows)
    yield (
        f"{len(twice)} message was sent twice: accepted once, answered once",
        all(seen[key] == 1 for key in twice),
        f"rows: {[seen[key] for key in twice]}",
    )


def _of_telnyx(turns: Sequence[LandedTurn], entries: Sequence[Entry]) -> Iterator[Check]:
    """Compare whole conversations, earlier runs included: user items are the turns' inputs."""
    inputs: dict[str, list[str]] = {}
    for turn in turns:
        inputs.setdefault(str(turn.conversation), []).append(turn.input_text)
    wrong = [one for one, texts in inputs.items() if tuple(texts) != user_texts(entries, one)]
    yield (
        "Telnyx's side: every input arrived once, in order, nothing else did",
        bool(turns) and not wrong,
        f"conversations {wrong} differ from the turns" if wrong else "no turn landed",
    )
    both = [one for one in overlaps(entries, slack_s=0.1) if one.conversation_id in inputs]
    yield (
        "Telnyx's side: never two requests of one conversation at once",
        not both,
        f"{len(both)} pairs",
    )
