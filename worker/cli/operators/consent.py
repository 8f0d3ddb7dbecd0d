"""`worker consent`: list, show, stop, start, import, export, reconcile."""

import csv
import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.console import print_line, print_table, progress_bar
from worker.cli.errors import CommandError, MisuseError
from worker.cli.operators.commands import Out, new_file
from worker.cli.operators.context import an_operator
from worker.cli.options import Json, Limit
from worker.cli.text import counts_as_text, print_json, warn
from worker.domain.states import ConsentSource

if TYPE_CHECKING:
    from worker.bootstrap.operator import Operator
    from worker.domain.screening.consents import Person
    from worker.handlers.operators.consents import BadLine

_MAX_SHOWN = 20
_COLUMNS = ("id", "scope", "stopped", "source", "channel", "recipient", "created_at")
Who = Annotated[
    str,
    typer.Argument(
        metavar="USER", help="CHANNEL:ADDRESS, also of somebody who never wrote; or an id."
    ),
]

consent = typer.Typer(
    no_args_is_help=True,
    help="Who has opted out: list, show, stop, start, import, export, reconcile.",
)


@consent.command("list")
def list_consents(
    *,
    scope: Annotated[
        str | None, typer.Option(help="Only these: telephone, email, or a channel's name.")
    ] = None,
    source: Annotated[ConsentSource | None, typer.Option(help="Only of this source.")] = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="Also people who have opted in again.")
    ] = False,
    addresses: Annotated[bool, typer.Option("--addresses", help="Also the addresses.")] = False,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List the people who have opted out, newest first."""
    with an_operator() as operator:
        found = operator.consents.store.find(
            scope=scope, source=source, everybody=everybody, limit=limit
        )
    rows = [asdict(one) for one in found]
    columns = list(_COLUMNS)
    if addresses:
        columns.insert(1, "address")
    rows = [{name: row[name] for name in columns} for row in rows]
    print_table(columns, rows, "nobody has opted out", as_json=as_json)


@consent.command("show")
def show_consent(who: Who, *, as_json: Json = False) -> None:
    """Show what the ledger has of a person, oldest first: the last line decides."""
    with an_operator() as operator:
        found = operator.consents.store.history(_person(operator, who))
    rows = [{name: asdict(one)[name] for name in _COLUMNS} for one in found]
    none = "the ledger has nothing of this person: they are answered"
    print_table(_COLUMNS, rows, none, as_json=as_json)


@consent.command("stop")
def stop_consent(who: Who, *, as_json: Json = False) -> None:
    """Record that a person has opted out: nothing is answered, and nothing goes out any more."""
    _set(who, stopped=True, as_json=as_json)


@consent.command("start")
def start_consent(who: Who, *, as_json: Json = False) -> None:
    """Record that a person has opted in again.

    Who opted out at Telnyx, with STOP, can only opt in there: by sending START to your number.
    """
    _set(who, stopped=False, as_json=as_json)


def _set(who: str, *, stopped: bool, as_json: bool) -> None:
    with an_operator() as operator:
        turned = operator.consents.set(_person(operator, who), stopped=stopped)
    if turned.after != stopped:
        raise CommandError(
            "Telnyx blocks this person, and only their own START to your number ends that:"
            " see `worker consent show`"
        )
    if as_json:
        print_json({"stopped": turned.after, "was_stopped": turned.before})
        return
    state = "has opted out" if stopped else "is answered"
    print_line(f"this person {state}{' already' if turned.before == stopped else ''}")


def _person(operator: "Operator", who: str) -> "Person":
    channel, colon, address = who.partition(":")
    if colon:
        return operator.consents.person(channel, address)
    if not who.isdecimal():
        raise MisuseError("name a person as CHANNEL:ADDRESS, or by the id of a channel user")
    found = operator.consents.store.address_of(int(who))
    if found is None:
        raise CommandError("there is no such channel user")
    return operator.consents.person(*found)


@consent.command("export")
def export_consents(*, out: Out = None) -> None:
    """Write who has opted out, and who has opted in again, as CSV.

    The columns are address, scope, state, source and since. People who were erased are left out:
    of them the ledger has no address.
    """
    from worker.handlers.operators.consents import COLUMNS  # noqa: PLC0415 - --help is quick

    opened = nullcontext(sys.stdout) if out is None else new_file(out)
    with an_operator() as operator, opened as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(operator.consents.rows())


@consent.command("import")
def import_consents(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV in UTF-8.")],
    *,
    as_json: Json = False,
) -> None:
    """Read opt-outs from CSV with a header: address, and perhaps scope, state, source and since.

    Without them a line means: telephone, stopped, import, now. What the ledger knows better since
    then stays. Safe to repeat. A wrong line is named and left out.
    """
    try:
        # As spreadsheets write it.
        lines = file.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise MisuseError(f"FILE: {error.strerror}") from None
    except UnicodeDecodeError:
        raise MisuseError("FILE: it is not UTF-8") from None
    with an_operator() as operator, progress_bar("import", max(len(lines) - 1, 0)) as advance:
        counts, bad = operator.consents.take(lines, advance)
    _report(counts, bad, as_json=as_json, unit="line")


@consent.command("reconcile")
def reconcile_consents(*, as_json: Json = False) -> None:
    """Read the list of opt-outs at Telnyx, and record those that the ledger lacks.

    For webhooks that were lost. It opts nobody in. Safe to repeat.
    """
    with an_operator() as operator, progress_bar("reconcile", None) as advance:
        counts, bad = operator.consents.reconcile(operator.telnyx.messages.opt_outs(), advance)
    _report(counts, bad, as_json=as_json, unit="row")


def _report(counts: Counter[str], bad: "list[BadLine]", *, as_json: bool, unit: str) -> None:
    for one in bad[:_MAX_SHOWN]:
        warn(f"{unit} {one.line}: {one.fix}")
    if as_json:
        print_json({**counts, "bad": [asdict(one) for one in bad]})
    else:
        print_line(counts_as_text(counts) or "nothing new")
    if bad:
        raise CommandError(f"{len(bad)} {unit}s were left out")
