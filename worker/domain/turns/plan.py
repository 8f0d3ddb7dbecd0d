"""Plans: what happens to a turn after a call, or after its thread was read."""

from dataclasses import dataclass
from typing import TypeAlias

from worker.domain.ids import CallId
from worker.domain.people.hand_over import HandOverReason
from worker.domain.reasons import DeadLetterReason
from worker.domain.states import ReplySource
from worker.domain.turns.calls import ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The turn landed and this is its answer."""

    text: str
    source: ReplySource
    incomplete: bool = False
    """The answer was cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """The turn ends without an answer of the model."""

    reason: DeadLetterReason
    fallback_text: str | None
    """None = its messages become dead letters."""
    landed: bool | None
    """Whether the user item is in Telnyx's log; None = not known."""
    outputs_landed: bool = False
    """Whether the thread was seen to hold the outputs of the last round's tools, too."""
    closes: bool = False
    """Whether the conversation is the cause: the next turn begins a new one."""
    not_run: tuple[ToolCall, ...] = ()
    """The model's last tool calls, which are not run: the next turn sends it that output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A person answers. `landed` None = the channel is stateless, there is no log."""

    landed: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptedOut:
    """The person has opted out meanwhile; `landed` as for `GiveUp`."""

    landed: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """The model has landed a turn that a person answers."""

    reason: HandOverReason
    not_run: tuple[ToolCall, ...] = ()
    """The model's tool calls: the next turn sends it their outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateClosing:
    """Keep all workers from such calls. `wait_s` None = longer with each strike in a row."""

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
    """A refused call that is now known to be the operator's fault, not the message's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """Close the conversation and continue with a new one; the thread's history is lost."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """End the turn, as one of its messages is refused; each gets a turn of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diverge:
    """Stop this channel user until an operator re-bases or resets the conversation."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UseTools:
    """Run these, and send their outputs to the model with another call."""

    calls: tuple[ToolCall, ...]


Plan: TypeAlias = (
    Reply | GiveUp | Recorded | OptedOut | HandedOver | Later | Replace | Split | Diverge
)
