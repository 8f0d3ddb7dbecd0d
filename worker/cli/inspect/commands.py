# ruff: noqa: PLC0415 - heavy imports wait until the command runs, so that --help is quick
"""The commands that only read: status, why, stuck, simulate and metrics."""

import threading
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.console import escape_for_terminal, print_line, print_table
from worker.cli.errors import CommandError
from worker.cli.options import Host, Json, Port
from worker.cli.text import print_json
from worker.domain.reports.times import clock, span

if TYPE_CHECKING:
    from worker.domain.reports.stuck import Stuck


def status(
    *,
    as_json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every two seconds, until Ctrl-C.")
    ] = False,
) -> None:
    """Show the state of all parts: counts, ages, reasons. Exits 1 if something is down.

    Never shows texts or addresses.
    """
    from worker.bootstrap.reports import reading
    from worker.cli.inspect.status import keep_showing, look, show
    from worker.store.reports.status import StatusStore

    with reading("database_url", "broker_url") as (settings, database):
        store = StatusStore(database)
        if watch:
            keep_showing(store, settings, as_json=as_json)
        seen = look(store, settings)
    show(seen, as_json=as_json)
    if not seen.healthy:
        raise CommandError("; ".join(seen.problems))


_Message = Annotated[
    str,
    typer.Argument(
        metavar="MESSAGE",
        help="Number of the message, CHANNEL:USER:MESSAGE-ID, the channel's own id, or the id of"
        " the Celery task that brought it.",
    ),
]
_Text = Annotated[bool, typer.Option("--text", help="Also print the texts of message and reply.")]


def why(asked: _Message, *, text: _Text = False, as_json: Json = False) -> None:
    """Show the history of one message, why it waits, and what happens next.

    Exits 1 if no accepted message has this id, and names other places that have it: the inbox, or
    the dead letters. With many messages, CHANNEL:USER:MESSAGE-ID is the quickest form.
    """
    from worker.bootstrap.reports import reading
    from worker.cli.inspect import why_view
    from worker.config.agents_file import load_agents
    from worker.domain.reports.explain_waiting import explain
    from worker.handlers.operators.explain import find, not_accepted
    from worker.store.reports.message_history import MessageReports

    with reading("database_url") as (settings, database):
        routing, timing = load_agents(settings.agents_file)
        messages = MessageReports(database)
        found = find(messages, asked)
        if len(found) > 1:
            raise why_view.several(found)
        history = messages.read(found[0].id) if found else None
        if history is None:
            why_view.print_not_accepted(*not_accepted(messages, asked), as_json=as_json)
            raise CommandError(why_view.NOT_ACCEPTED)
    told = explain(history, routing, timing)
    if as_json:
        print_json(why_view.facts_of(history, told, routing.tools, text=text))
        return
    for line in why_view.lines_of(history, told, routing.tools, text=text):
        print_line(escape_for_terminal(line))


def stuck(
    *,
    after_s: Annotated[
        float, typer.Option("--after", min=0, help="Seconds that anything may wait.")
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Show what has waited for too long, and the command that helps. Exits 1 if something has.

    Lists users who are due and not claimed, have diverged, or have a call in doubt; overdue
    replies; closed gates with users behind them; a full inbox; dead and stalled workers; messages
    on a queue that no worker takes. Never shows texts or addresses.
    """
    from worker.bootstrap.reports import reading
    from worker.config.agents_file import load_agents
    from worker.domain.errors import BrokerAwayError
    from worker.domain.reports import stuck as domain
    from worker.queue.misplaced import misplaced_entries
    from worker.store.reports.stuck import StuckStore

    with reading("database_url", "broker_url") as (settings, database):
        routing, timing = load_agents(settings.agents_file)
        quiet_s = timing.quiet_s(max(one.call_timeout_s for one in routing.agents.values()))
        waits = StuckStore(database).look(after_s=after_s, quiet_s=quiet_s)
    # Without its broker the service goes on: `worker status` reports that one.
    with suppress(BrokerAwayError):
        waits = replace(waits, misplaced=misplaced_entries(settings.broker_url))
    found, more, now = domain.stuck(waits, routing), domain.not_read(waits), waits.now
    if as_json:
        print_json({"now": now, "stuck": [asdict(one) for one in found], "more": more})
    elif found:
        rows = [_row(one, now) for one in found]
        print_table(("since", "for", "user", "message", "why", "try"), rows, "")
        for kind, count in more.items():
            print_line(f"{kind}: {count} more channel users")
    else:
        print_line(f"nothing has waited for more than {span(after_s)} that should not")
    if found:
        raise CommandError(f"stuck: {len(found) + sum(more.values())}")


def _row(one: "Stuck", now: datetime) -> dict[str, object]:
    since, waited = clock(one.since, now), span((now - one.since).total_seconds())
    return {**asdict(one), "since": since, "for": waited, "try": one.command}


def simulate(
    path: Annotated[
        str, typer.Argument(metavar="FILE", help="One envelope as JSON; - reads stdin.")
    ],
    *,
    as_json: Json = False,
) -> None:
    """Show how an envelope would be routed and handled. Exits 1 if it would be a dead letter.

    Sends nothing and writes nothing; needs no database. Reads AGENTS_FILE as a worker does.
    """
    from worker.cli.send.dry_run import lines_of, outcome_of, read_file, show
    from worker.config.agents_file import load_agents
    from worker.config.settings import settings_for

    facts, _ = outcome_of(read_file(path), load_agents(settings_for().agents_file)[0])
    show(facts, lines_of(facts), as_json=as_json)


def metrics(*, port: Port = 9465, host: Host = "127.0.0.1") -> None:
    """Serve counts and ages of the whole installation to Prometheus. Ctrl-C stops it.

    Run one for each installation: it reads Postgres and the broker. Workers serve their own
    counters at METRICS_PORT. Never shows texts or addresses.
    """
    from prometheus_client import CollectorRegistry

    from worker.bootstrap.reports import reading
    from worker.cli.inspect.metrics import Overall, parts_of
    from worker.observability.logs import configure_logging
    from worker.observability.metrics_server import MetricsServer
    from worker.store.reports.gauges import GaugeStore

    registry = CollectorRegistry()
    with reading("database_url", "broker_url", name="worker-metrics") as (settings, database):
        configure_logging(settings.log_level)
        gauges = GaugeStore(database)
        registry.register(Overall(parts_of(gauges, settings.broker_url)))
        server = MetricsServer(registry, host=host, port=port)
        try:
            if not server.start():
                raise CommandError(f"port {port} on {host} is in use: choose another --port")
            print_line(f"http://{host}:{server.port}/metrics")
            threading.Event().wait()
        finally:
            server.stop()
