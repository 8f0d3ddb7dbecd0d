"""What a finished call, or a look at the thread, means for the turn.

Plans:
    Reply     the turn is answered
    GiveUp    the turn ends without an answer of the model: fallback text, or dead letters
    Recorded  the turn's words are in Telnyx's log, and a person answers
    Later     the turn stays open and is taken up again after `wait_s`
    Replace   its conversation is of no use any more: the turn goes on with a fresh one
    Split     one of its messages is refused: they go on one by one
    Diverge   the user is stopped until a person has looked
    UseTools  the turn goes on at once: the model wants tools
"""

from dataclasses import dataclass
from typing import TypeAlias

from worker.domain.ids import CallId
from worker.domain.reasons import DeadLetterReason
from worker.domain.states import ReplySource
from worker.domain.turns.calls import ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The turn landed and this is its answer."""

    text: str
    source: ReplySource


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """The turn ends without an answer of the model."""

    reason: DeadLetterReason
    fallback_text: str | None
    """None = its messages become dead letters."""
    landed: bool | None
    """Whether the user item is in Telnyx's log; None = not known."""
    outputs_landed: bool = False
    """Whether a look has shown that the outputs of the last round's tools are there too."""
    not_run: tuple[ToolCall, ...] = ()
    """What the model asked for last, and will not get: the next turn tells it so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A person answers. `landed` None = the channel is stateless, there is no log."""

    landed: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateClosing:
    """Close a door to every worker. `wait_s` None = grow with each closing in a row."""

    name: str
    reason: str
    wait_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """Take the turn up again after `wait_s`."""

    wait_s: float
    reason: str
    gate: GateClosing | None = None
    excused: CallId | None = None
    """A refused call that turned out to be the operator's fault, and not the message's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """Close the conversation and go on with a fresh one; the thread's history is lost."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """End the turn, and give each of its messages a turn of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diverge:
    """Stop this channel user until an operator re-bases or resets him."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UseTools:
    """Run these, and tell the model what came of them with another call."""

    calls: tuple[ToolCall, ...]


Plan: TypeAlias = Reply | GiveUp | Recorded | Later | Replace | Split | Diverge
