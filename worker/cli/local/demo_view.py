"""Shows the demo: a table that fills on a terminal, a line for each reply elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.live import Live
from rich.table import Table

from worker.cli.console import escape_for_terminal, out, print_line
from worker.cli.local.demo_script import ScriptLine
from worker.client import MessageKey, Outcome


@dataclass(kw_only=True)
class DemoView:
    """The messages as they are sent and answered."""

    sent: dict[MessageKey, ScriptLine] = field(default_factory=dict)
    ended: dict[MessageKey, Outcome] = field(default_factory=dict)
    _live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while the messages go out and the replies come in."""
        if not out.is_terminal:
            yield
            return
        with Live(self._table(), console=out, refresh_per_second=12) as self._live:
            yield
        self._live = None

    def send(self, key: MessageKey, line: ScriptLine) -> None:
        """Note a message that went out."""
        self.sent[key] = line
        self._draw()

    def land(self, ended: Sequence[tuple[MessageKey, Outcome]]) -> None:
        """Note messages that have their outcome."""
        for key, one in ended:
            repeated = one.turn in {earlier.turn for earlier in self.ended.values()}
            self.ended[key] = one
            if self._live is None:
                line = self.sent[key]
                print_line(f"{line.channel:<5} {line.user}: {escape_for_terminal(line.text)}")
                print_line(f"      {_cell(one, repeated=repeated)}")
        self._draw()

    def merged(self, user: str) -> tuple[int, int]:
        """Count the messages of one person, and the turns that answered them."""
        ended = [self.ended[key] for key, line in self.sent.items() if line.user == user]
        return len(ended), len({one.turn for one in ended})

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(self._table())

    def _table(self) -> Table:
        table = Table(expand=True)
        table.add_column("channel")
        table.add_column("from", no_wrap=True)
        table.add_column("message", ratio=2)
        table.add_column("reply", ratio=3)
        table.add_column("s", justify="right")
        shown: set[int | None] = set()
        for key, line in self.sent.items():
            ended = self.ended.get(key)
            twice = " [dim](sent twice)[/]" if line.again else ""
            took = "" if ended is None else _seconds(ended)
            reply = _cell(ended, repeated=ended is not None and ended.turn in shown)
            table.add_row(
                line.channel, line.user, escape_for_terminal(line.text) + twice, reply, took
            )
            if ended is not None:
                shown.add(ended.turn)
        return table


def _seconds(ended: Outcome) -> str:
    return f"{(ended.finished_at - ended.accepted_at).total_seconds():.2f}"


def _cell(ended: Outcome | None, *, repeated: bool) -> str:
    if ended is None:
        return "[dim]…[/]"
    return "[dim]↑ the same reply, to all of these[/]" if repeated else _reply(ended)


def _reply(ended: Outcome) -> str:
    if ended.text is None:
        return f"[red]no reply: {ended.outcome}[/]"
    return f"[cyan]{escape_for_terminal(ended.text)}[/]"
