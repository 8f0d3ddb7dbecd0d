"""Decides what has waited for too long, and which command helps.

Paused users wait for a person, and users within the debounce are not late: neither is stuck. A gate
is listed only if somebody has waited behind it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from typing import Final

from worker.domain.ids import ChannelUserId, MessageRowId
from worker.domain.reports.message_history import ClosedGate
from worker.domain.reports.misplaced import misplaced_line
from worker.domain.routing import Routing


@unique
class StuckKind(StrEnum):
    """The kind of problem, for scripts."""

    NO_WORKER = "no_worker"
    """Work waits, and no worker has a fresh heartbeat."""
    STALLED_WORKER = "stalled_worker"
    INBOX = "inbox"
    GATE = "gate"
    """Somebody has waited behind a closed gate."""
    NO_AGENT = "no_agent"
    DIVERGED = "diverged"
    """Listed at once: nothing but an operator can help."""
    ERASING = "erasing"
    OVERDUE = "overdue"
    DEAD_LEASE = "dead_lease"
    """Overdue since the worker that held the user died."""
    DOUBT = "doubt"
    """A call without a clear answer, for longer than reconciling takes."""
    STRANDED = "stranded"
    DELIVERY = "delivery"
    MISPLACED = "misplaced"
    """Messages on a queue that no worker takes; listed at once."""


_WHY: Final = {
    StuckKind.DIVERGED: "stopped: Telnyx's conversation is not what we know",
    StuckKind.ERASING: "is being erased, and that was not finished: run it again",
    StuckKind.OVERDUE: "due, and no worker has taken it up",
    StuckKind.DEAD_LEASE: "its worker died, and no other has taken it up",
    StuckKind.DOUBT: "a call without a clear answer is not resolved, although it could be by now",
    StuckKind.STRANDED: "waits without a due time, which is a defect: its next message frees it",
    StuckKind.DELIVERY: "its reply is due to be sent, and no worker has taken it up",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckUser:
    """A channel user who has waited for too long."""

    kind: StuckKind
    user: ChannelUserId
    message: MessageRowId | None
    """Their oldest waiting message; None = a message of our staff waits."""
    since: datetime
    all_of_kind: int
    """How many users have this problem; not all of them may be listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Messages, replies or inbox rows that wait, of one agent or channel and in one state."""

    name: str
    """The agent, the channel, `inbox`, or host/pid of a stalled worker."""
    state: str
    count: int
    since: datetime
    """Acceptance or creation of the oldest."""
    age_s: float
    stopped: bool = False
    """Their users wait for an operator: diverged, or being erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckSnapshot:
    """Everything that has waited for longer than the given time."""

    now: datetime
    workers: int
    """Processes whose heartbeat is fresh."""
    stalled: tuple[Waiting, ...]
    """Workers that take nothing although entries wait, by host/pid."""
    gates: tuple[ClosedGate, ...]
    by_agent: tuple[Waiting, ...]
    """Messages without an outcome, by agent."""
    by_channel: tuple[Waiting, ...]
    """Undelivered replies, by channel."""
    inbox: Waiting | None
    users: tuple[StuckUser, ...]
    misplaced: Mapping[str, int] = field(default_factory=dict)
    """Messages by the queue that no worker takes."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """One line of `worker stuck`."""

    kind: StuckKind
    why: str
    since: datetime
    command: str
    _: KW_ONLY
    user: ChannelUserId | None = None
    message: MessageRowId | None = None


def not_read(seen: StuckSnapshot) -> dict[StuckKind, int]:
    """Count the users that were not read, by kind; those whose lease died count as overdue."""
    merged = {StuckKind.DEAD_LEASE: StuckKind.OVERDUE}
    shown = Counter(merged.get(one.kind, one.kind) for one in seen.users)
    all_ = {merged.get(one.kind, one.kind): one.all_of_kind for one in seen.users}
    return {kind: all_[kind] - shown[kind] for kind in all_ if all_[kind] > shown[kind]}


def stuck(seen: StuckSnapshot, routing: Routing) -> tuple[Stuck, ...]:
    """Return what is stuck: causes first, then the users they affect."""
    return (*_causes(seen, routing), *_people(seen))


def _causes(seen: StuckSnapshot, routing: Routing) -> Iterator[Stuck]:
    backlogs = (*seen.by_agent, *seen.by_channel, *((seen.inbox,) if seen.inbox else ()))
    # Without a backlog it is no problem that no worker runs: this may be a quiet installation.
    if seen.workers == 0 and backlogs:
        count, since = _sum(backlogs)
        why = f"no worker is alive, and {count} wait"
        yield Stuck(StuckKind.NO_WORKER, why, since, "worker doctor")
    for one in seen.stalled:
        why = f"worker {one.name} takes nothing while entries wait: it ends itself, else end it"
        yield Stuck(StuckKind.STALLED_WORKER, why, one.since, "worker health")
    if seen.inbox is not None:
        why = f"{seen.inbox.count} envelopes wait in the inbox and were not accepted"
        yield Stuck(StuckKind.INBOX, why, seen.inbox.since, "worker status")
    for name, count in seen.misplaced.items():
        why = misplaced_line(name, count)
        yield Stuck(StuckKind.MISPLACED, why, seen.now, "worker doctor")
    for gate in seen.gates:
        yield from _gate(gate, seen, routing)
    for name in sorted({one.name for one in seen.by_agent} - routing.agents.keys()):
        count, since = _sum([one for one in seen.by_agent if one.name == name])
        why = f"{count} wait for agent {name}, which is not in the agents file"
        yield Stuck(StuckKind.NO_AGENT, why, since, "worker doctor")


def _gate(gate: ClosedGate, seen: StuckSnapshot, routing: Routing) -> Iterator[Stuck]:
    passing = {agent.name for agent in routing.agents.values() if gate.name in agent.gates}
    behind = [
        *(one for one in seen.by_agent if one.name in passing),
        *(one for one in seen.by_channel if _holds_back(gate.name, one.name)),
    ]
    if behind:
        count, since = _sum(behind)
        why = f"{count} wait behind gate {gate.name}: {gate.reason}"
        yield Stuck(StuckKind.GATE, why, since, "worker doctor")


def _holds_back(gate: str, channel: str) -> bool:
    """Return whether it is the gate of a channel, or of an address of ours there."""
    names = {f"webhook:{channel}", f"telnyx:{channel}"}
    return gate in names or gate.startswith(f"telnyx:{channel}:")


def _sum(backlogs: Sequence[Waiting]) -> tuple[int, datetime]:
    return sum(one.count for one in backlogs), min(one.since for one in backlogs)


def _people(seen: StuckSnapshot) -> Iterator[Stuck]:
    for one in seen.users:
        command = "worker status" if one.message is None else f"worker why {one.message}"
        if one.kind is StuckKind.DIVERGED:
            command = f"worker conversations show {one.user}"
        elif one.kind is StuckKind.ERASING:
            command = f"worker erase {one.user}"
        why = _WHY[one.kind]
        yield Stuck(one.kind, why, one.since, command, user=one.user, message=one.message)
