"""What people wrote is shown, and obeyed by no terminal, whichever way a command prints it."""

import ast
import contextlib
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from rich.panel import Panel

from tests.support.databases import ROOT
from worker.cli import console
from worker.cli.errors import CommandError, errors_as_one_line
from worker.cli.text import print_json, print_text, warn

STEERING = {
    "bell": "\x07",
    "escape": "\x1b[2J",
    "carriage return": "\r",
    "backspace": "\x08",
    "delete": "\x7f",
    "C1: CSI": "\x9b2J",
    "C1: OSC": "\x9d0;title\x9c",
    "C1: next line": "\x85",
    "bidi override": "\u202e",
    "bidi embedding": "\u202a",
    "bidi isolate": "\u2067",
    "bidi mark": "\u200f",
    "arabic letter mark": "\u061c",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "half a character": "\ud83d",
}
OBEYED = set("".join(STEERING.values())) - set("[2J0;title")


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """All that a command prints, to stdout and to stderr."""
    text = io.StringIO()
    for one in (console.out, console.err):
        monkeypatch.setattr(one, "_file", text)
        monkeypatch.setattr(one, "_width", 400)
    return text


@contextlib.contextmanager
def to_the_console() -> Iterator[None]:
    """Let what is printed without rich go to the same text."""
    with (
        contextlib.redirect_stdout(console.out.file),
        contextlib.redirect_stderr(console.err.file),
    ):
        yield


def as_line(text: str) -> None:
    console.print_line(f"reply: {console.escape_for_terminal(text)}")


def as_line_that_was_forgotten(text: str) -> None:
    console.print_line(f"reply: {text}")


def as_plain_line(text: str) -> None:
    with to_the_console():
        print_text(f"reply: {text}")


def as_warning(text: str) -> None:
    with to_the_console():
        warn(text)


def as_table(text: str) -> None:
    console.print_table(["name"], [{"name": [text, text]}], none="")


def as_panel(text: str) -> None:
    console.out.print(Panel(text, title=text))


def as_error(text: str) -> None:
    with to_the_console(), pytest.raises(SystemExit), errors_as_one_line():
        raise CommandError(f"line 3: {text}")


def as_json(text: str) -> None:
    with to_the_console():
        print_json({text: [text]})


WAYS = [
    as_line,
    as_line_that_was_forgotten,
    as_plain_line,
    as_warning,
    as_table,
    as_panel,
    as_error,
    as_json,
]
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
Way = Callable[[str], None]


@each_way
@pytest.mark.parametrize("name", STEERING)
def test_nothing_that_a_terminal_obeys_is_printed(
    way: Way, name: str, printed: io.StringIO
) -> None:
    way(f"before{STEERING[name]}after")
    said = printed.getvalue()
    assert not OBEYED & set(said)
    assert "before" in said
    assert "after" in said
    said.encode()


@pytest.mark.parametrize("way", [as_line, as_plain_line, as_warning, as_table, as_json])
def test_a_text_cannot_look_like_a_line_of_ours(way: Way, printed: io.StringIO) -> None:
    way("ok\nworker: all is well")
    assert "worker: all is well" in printed.getvalue()
    assert not [line for line in printed.getvalue().splitlines() if line.startswith("worker:")]


def test_an_error_of_several_lines_begins_only_the_first_of_them(printed: io.StringIO) -> None:
    as_error("ok\nworker: all is well")
    assert printed.getvalue() == "worker: line 3: ok\n  worker: all is well\n"


def test_json_keeps_every_character(printed: io.StringIO) -> None:
    text = "".join(STEERING.values()) + "\n\t\\ü😀\u200d\\"
    with to_the_console():
        print_json({text: text})
    assert json.loads(printed.getvalue()) == {text: text}
    assert printed.getvalue().count("\n") == 1


@each_way
def test_what_everybody_writes_is_printed_as_it_is(way: Way, printed: io.StringIO) -> None:
    text = "Grüße 你好 שלום مرحبا 👩‍👩‍👧 a\u00a0b"
    way(text)
    assert text in printed.getvalue()


def test_a_pipe_gets_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(console.out, "_file", text)
    monkeypatch.setenv("COLUMNS", "20")
    row = {
        "id": "7",
        "detail": "metadata.order: input should be a string; " * 5 + "end",
        "why": "x" * 300,
    }
    console.print_table(list(row), [row], none="")
    (line,) = [line for line in text.getvalue().splitlines() if "7" in line]
    assert all(value in line for value in row.values())


def test_json_has_each_time_in_one_form(printed: io.StringIO) -> None:
    at = datetime(2026, 3, 1, 14, 30, tzinfo=timezone(timedelta(hours=2)))
    with to_the_console():
        print_json({"at": at, "ats": [at.astimezone(UTC)], "day": at.date()})
    once = "2026-03-01T12:30:00+00:00"
    assert json.loads(printed.getvalue()) == {"at": once, "ats": [once], "day": "2026-03-01"}


# Programs for programs: a document of their own, in ASCII.
_OTHERS = {"errors.py", "text.py"}


def test_commands_print_in_no_other_way() -> None:
    files = sorted((ROOT / "worker" / "cli").rglob("*.py"))
    found = [
        f"{file.name}: {ast.unparse(node)[:60]}"
        for file in files
        if file.name not in _OTHERS
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and _prints(node.func)
    ]
    assert found == [
        "app.py: typer.echo(version('message-worker'))",
        "commands.py: sys.stdout.writelines(map(visible_json, pieces))",
        "commands.py: typer.echo(json.dumps(of_envelope(), indent=2))",
    ]


def _prints(function: ast.expr) -> bool:
    named = ast.unparse(function)
    direct = named.startswith(("sys.stdout.write", "sys.stderr.write", "typer.echo", "typer.secho"))
    return direct or named in {"print", "rich.print"}
