"""What one sees of the demo: a table that fills on a terminal, a line for each reply elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.live import Live
from rich.table import Table

from worker.cli.console import escape_for_terminal, out, print_line
from worker.cli.local.demo_script import Line
from worker.store.reports.outcomes import MessageKey, Progress


@dataclass(kw_only=True)
class Stage:
    """The messages as they are sent and answered."""

    sent: dict[MessageKey, Line] = field(default_factory=dict)
    ended: dict[MessageKey, Progress] = field(default_factory=dict)
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

    def send(self, key: MessageKey, line: Line) -> None:
        """Note a message that went out."""
        self.sent[key] = line
        self._draw()

    def land(self, ended: Sequence[Progress]) -> None:
        """Note messages that have their outcome."""
        for one in ended:
            repeated = one.turn_id in {earlier.turn_id for earlier in self.ended.values()}
            self.ended[one.key] = one
            if self._live is None:
                line = self.sent[one.key]
                print_line(f"{line.channel:<5} {line.user}: {escape_for_terminal(line.text)}")
                print_line(f"      {_cell(one, repeated=repeated)}")
        self._draw()

    def merged(self, user: str) -> tuple[int, int]:
        """Count the messages of one person, and the turns that answered them."""
        his = [self.ended[key] for key, line in self.sent.items() if line.user == user]
        return len(his), len({one.turn_id for one in his})

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
            took = "" if ended is None or ended.took_s is None else f"{ended.took_s:.2f}"
            reply = _cell(ended, repeated=ended is not None and ended.turn_id in shown)
            table.add_row(
                line.channel, line.user, escape_for_terminal(line.text) + twice, reply, took
            )
            if ended is not None:
                shown.add(ended.turn_id)
        return table


def _cell(ended: Progress | None, *, repeated: bool) -> str:
    if ended is None:
        return "[dim]…[/]"
    return "[dim]↑ the same reply, to all of these[/]" if repeated else _reply(ended)


def _reply(ended: Progress) -> str:
    if ended.reply is None:
        return f"[red]no reply: {ended.outcome}[/]"
    return f"[cyan]{escape_for_terminal(ended.reply)}[/]"
