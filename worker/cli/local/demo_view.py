"""The demo's messages, and how it shows them: a table that fills, or a line for each reply."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import uuid4

from rich.live import Live
from rich.table import Table

from message_worker_client import MessageKey, Outcome
from message_worker_client.envelope import VERSION
from worker.cli.console import escape_for_terminal, out, print_line

SHOPS = {"sms": "+13125550100", "email": "help@example.com"}


@dataclass(frozen=True, slots=True)
class ScriptLine:
    """One message of the script."""

    user: str
    text: str
    again: bool = False
    """Send it a second time with the same `message_id`: that must change nothing."""
    after_reply: bool = False
    """Wait for the reply to this person's earlier messages."""
    pause_s: float = 0.05
    """Pause until the next message goes out."""

    @property
    def channel(self) -> str:
        """The channel on which such an address writes."""
        return "email" if "@" in self.user else "sms"

    def envelope(self, sent_at: datetime) -> dict[str, object]:
        """Return the envelope that a producer sends, with a fresh `message_id`."""
        return {
            "version": VERSION,
            "channel": self.channel,
            "recipient": SHOPS[self.channel],
            "user": self.user,
            "message_id": f"demo-{uuid4()}",
            "text": self.text,
            "sent_at": sent_at.isoformat(),
        }


ANN, BEN, CAROL = "+13125550101", "+13125550102", "+13125550103"
DORA, EMIL = "dora@example.com", "emil@example.com"
SCRIPT = (
    ScriptLine(ANN, "Hi, are you open today?"),
    ScriptLine(DORA, "Where is my order 4711?"),
    ScriptLine(BEN, "Do you deliver to Evanston?", again=True),
    # A burst: four messages as fast as thumbs go. They wait for each other and share one reply.
    ScriptLine(CAROL, "Hey", pause_s=0.02),
    ScriptLine(CAROL, "one more thing", pause_s=0.02),
    ScriptLine(CAROL, "about my booking", pause_s=0.02),
    ScriptLine(CAROL, "can I move it to Friday?", pause_s=0.02),
    ScriptLine(EMIL, "Please send me the invoice for May."),
    ScriptLine(ANN, "And tomorrow?", after_reply=True),
    ScriptLine(DORA, "It should have come on Monday.", after_reply=True),
)


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

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(self._table())

    def _table(self) -> Table:
        table = Table("channel", expand=True)
        table.add_column("from", no_wrap=True)
        table.add_column("message", ratio=2)
        table.add_column("reply", ratio=3)
        table.add_column("s", justify="right")
        shown: set[int | None] = set()
        for key, line in self.sent.items():
            ended = self.ended.get(key)
            twice = " [dim](sent twice)[/]" if line.again else ""
            reply, took = _cell(ended, repeated=ended is not None and ended.turn in shown), ""
            if ended is not None and ended.accepted_at is not None:
                took = f"{(ended.finished_at - ended.accepted_at).total_seconds():.2f}"
                shown.add(ended.turn)
            table.add_row(
                line.channel, line.user, escape_for_terminal(line.text) + twice, reply, took
            )
        return table


def _cell(ended: Outcome | None, *, repeated: bool) -> str:
    if ended is None:
        return "[dim]…[/]"
    if repeated:
        return "[dim]↑ the same reply, to all of these[/]"
    if ended.text is None:
        return f"[red]no reply: {ended.outcome}[/]"
    return f"[cyan]{escape_for_terminal(ended.text)}[/]"
