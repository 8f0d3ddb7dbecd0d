"""What waits for longer than it should, and the command that helps: decided from one look.

People who are paused wait for a person, and who waits for more messages is not late; neither is
stuck. A gate is only worth a line where somebody has waited behind it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Final

from worker.domain.ids import ChannelUserId, MessageRowId
from worker.domain.reports.message_history import ClosedGate
from worker.domain.routing import Agent, Routing
from worker.domain.turns.next_step import gate_names


@unique
class StuckKind(StrEnum):
    """What is wrong, for scripts."""

    NO_WORKER = "no_worker"
    STALLED_WORKER = "stalled_worker"
    INBOX = "inbox"
    GATE = "gate"
    NO_AGENT = "no_agent"
    DIVERGED = "diverged"
    ERASING = "erasing"
    OVERDUE = "overdue"
    DEAD_LEASE = "dead_lease"
    DOUBT = "doubt"
    STRANDED = "stranded"
    DELIVERY = "delivery"


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckUser:
    """A channel user who is held up."""

    kind: StuckKind
    user: ChannelUserId
    message: MessageRowId | None
    """The oldest of his that waits; None = what one of our people said."""
    since: datetime
    all_of_kind: int
    """So many are held up for this reason; not all of them may have been read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Those that wait for one agent, for delivery on one channel, or in the inbox."""

    name: str
    count: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckSnapshot:
    """One look at everything that has waited for longer than was asked."""

    now: datetime
    workers: int
    """Processes whose heartbeat is fresh."""
    stalled: tuple[Backlog, ...]
    """Of them those that take nothing; named host/pid."""
    gates: tuple[ClosedGate, ...]
    by_agent: tuple[Backlog, ...]
    """Messages without an outcome, by agent."""
    by_channel: tuple[Backlog, ...]
    """Replies that are not out, by channel."""
    inbox: Backlog | None
    users: tuple[StuckUser, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """One line of `worker stuck`."""

    kind: StuckKind
    why: str
    since: datetime
    command: str
    user: ChannelUserId | None = None
    message: MessageRowId | None = None


_WHY: Final = {
    StuckKind.DIVERGED: "stopped: Telnyx's conversation is not what we know",
    StuckKind.ERASING: "is being erased, and that was not finished: run it again",
    StuckKind.OVERDUE: "due, and no worker has taken it up",
    StuckKind.DEAD_LEASE: "its worker died, and no other has taken it up",
    StuckKind.DOUBT: "a call without a clear answer is not cleared up, though it could be by now",
    StuckKind.STRANDED: "waits without a due time, which is a defect: its next message frees it",
    StuckKind.DELIVERY: "its reply is due to be handed over, and no worker has taken it up",
}


def stuck(waits: StuckSnapshot, routing: Routing) -> tuple[Stuck, ...]:
    """Say what is stuck, the causes before those who suffer from them."""
    return (*_causes(waits, routing), *_people(waits))


def _causes(waits: StuckSnapshot, routing: Routing) -> Iterator[Stuck]:
    crowds = (*waits.by_agent, *waits.by_channel, *((waits.inbox,) if waits.inbox else ()))
    if waits.workers == 0 and crowds:
        yield Stuck(
            kind=StuckKind.NO_WORKER,
            why=f"no worker is alive, and {sum(one.count for one in crowds)} wait",
            since=min(one.since for one in crowds),
            command="worker doctor",
        )
    for one in waits.stalled:
        yield Stuck(
            kind=StuckKind.STALLED_WORKER,
            why=f"worker {one.name} takes nothing while entries wait: it ends itself, else end it",
            since=one.since,
            command="worker health",
        )
    if waits.inbox is not None:
        yield Stuck(
            kind=StuckKind.INBOX,
            why=f"{waits.inbox.count} lie in the inbox and were not accepted",
            since=waits.inbox.since,
            command="worker status",
        )
    for gate in waits.gates:
        yield from _gate(gate, waits, routing)
    for one in waits.by_agent:
        if one.name not in routing.agents:
            yield Stuck(
                kind=StuckKind.NO_AGENT,
                why=f"{one.count} wait for agent {one.name}, which the configuration has not",
                since=one.since,
                command="worker doctor",
            )


def _gate(gate: ClosedGate, waits: StuckSnapshot, routing: Routing) -> Iterator[Stuck]:
    behind = [
        *(one for one in waits.by_agent if _passes(routing.agents.get(one.name), gate)),
        *(one for one in waits.by_channel if gate.name == f"webhook:{one.name}"),
    ]
    if behind:
        yield Stuck(
            kind=StuckKind.GATE,
            why=f"{sum(one.count for one in behind)} wait behind gate {gate.name}: {gate.reason}",
            since=min(one.since for one in behind),
            command="worker doctor",
        )


def _passes(agent: Agent | None, gate: ClosedGate) -> bool:
    """Whether a call of this agent passes this gate."""
    return agent is not None and gate.name in gate_names(agent=agent.name, model=agent.model)


def _people(waits: StuckSnapshot) -> Iterator[Stuck]:
    for one in waits.users:
        command = "worker status" if one.message is None else f"worker why {one.message}"
        if one.kind is StuckKind.DIVERGED:
            command = f"worker conversations show {one.user}"
        elif one.kind is StuckKind.ERASING:
            command = f"worker erase {one.user}"
        yield Stuck(
            kind=one.kind,
            why=_WHY[one.kind],
            since=one.since,
            command=command,
            user=one.user,
            message=one.message,
        )
