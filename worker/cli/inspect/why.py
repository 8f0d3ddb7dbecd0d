"""`worker why`: the history of one message, and why it waits."""

from dataclasses import asdict

from worker.bootstrap.reports import open_reports
from worker.cli.console import escape_for_terminal, print_json, print_line, warn
from worker.cli.errors import CommandError
from worker.cli.inspect.why_view import facts_of, lines_of
from worker.cli.settings import agents_of, settings_for
from worker.cli.times import moment
from worker.handlers.operators.explain import NotAccepted
from worker.store.reports.message_history import Found


def run(asked: str, *, text: bool, as_json: bool) -> None:
    """Show it. Raises `CommandError` where no message, or more than one, has this id."""
    settings = settings_for("database_url")
    routing, timing = agents_of(settings)
    with open_reports(settings.database_url) as reports:
        explain = reports.explain(routing, timing)
        found = explain.find(asked)
        explained = explain(_only(found).id) if found else None
        elsewhere = explain.not_accepted(asked) if explained is None else None
    if explained is None:
        if elsewhere is not None:
            _tell_not_accepted(elsewhere, as_json=as_json)
        raise CommandError(
            "no accepted message has this id; give our number, CHANNEL:USER:MESSAGE-ID or the"
            " channel's own id. One that is still in Redis has no row yet: see worker status"
        )
    if as_json:
        print_json(facts_of(explained, routing.tools, text=text))
        return
    for line in lines_of(explained, routing.tools, text=text):
        print_line(escape_for_terminal(line))


def _only(found: tuple[Found, ...]) -> Found:
    if len(found) == 1:
        return found[0]
    numbers = ", ".join(
        f"{one.id} ({one.channel}, user {one.user_id}, {one.accepted_at:%Y-%m-%d %H:%M}Z)"
        for one in found
    )
    raise CommandError(f"several messages have this id: choose one of {numbers}")


def _tell_not_accepted(elsewhere: NotAccepted, *, as_json: bool) -> None:
    if as_json:
        refused = [asdict(one) for one in elsewhere.refused]
        for one in refused:
            # The bytes hold texts of the sender; kind and time of resolution have no key here.
            del one["raw"], one["kind"], one["resolved_at"]
        print_json({"inbox": [asdict(one) for one in elsewhere.inbox], "dead_letters": refused})
        return
    for waiting in elsewhere.inbox:
        at = moment(waiting.created_at, waiting.now)
        warn(f"row {waiting.id} of inbox has it, since {at}: no worker has accepted it yet")
    for letter in elsewhere.refused:
        over = f", {letter.resolution}" if letter.resolution else ""
        warn(
            f"dead letter {letter.id} has it{over}: {letter.reason}, {letter.detail}"
            f" (worker dead-letters show {letter.id})"
        )
