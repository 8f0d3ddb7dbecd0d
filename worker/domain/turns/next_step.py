"""Decides the next step of one channel user from a snapshot of Postgres.

Steps:
    Release    nothing now; come back at `due_at`
    Send       POST the open turn, which cannot be at Telnyx yet
    Record     add it to Telnyx's log without an answer: a person has taken over
    Prepare    the turn needs a Telnyx conversation first
    Reconcile  an earlier call may have happened: read Telnyx's log before anything else
    GoOn       the model has asked for tools: run them, and send their outputs
    Quit       end the open turn: the person has opted out

A step with a `batch` opens a turn over these messages. The decision is pure; the store carries it
out in the transaction of the claim.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from worker.domain.ids import MessageRowId
from worker.domain.messages import MAX_TURN_MESSAGES, PendingMessage, next_batch
from worker.domain.routing import Agent, ChannelPolicy, Routing
from worker.domain.states import TurnKind
from worker.domain.turns.records import OpenTurn, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Release the user until `due_at`; None = until a message arrives."""

    due_at: datetime | None = None
    expired: tuple[MessageRowId, ...] = ()
    """Messages that end unanswered because they are too old."""
    over_budget: tuple[MessageRowId, ...] = ()
    """Messages that end because the agent's budget of the day is used up."""
    opted_out: tuple[MessageRowId, ...] = ()
    """Messages that end because the person has opted out."""
    trouble: str | None = None
    """The fault that an operator has to fix; None = none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    agent: str
    batch: tuple[PendingMessage, ...] = ()
    """Empty = the turn is open already."""
    expired: tuple[MessageRowId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(_Turn):
    """Commit the intent and POST."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(_Turn):
    """Add the turn's text to Telnyx's log, so that the thread stays complete; no call is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare(_Turn):
    """Find or create the Telnyx conversation, then commit the intent and POST.

    Of one that may hold turns we have lost, the log is compared with our records in between.
    """

    close: str | None = None
    """The reason to close the open conversation first; None = none is open, or it is not ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconcile(_Turn):
    """Read Telnyx's log of the open turn's conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoOn(_Turn):
    """Run the tools that have not run, commit the next intent and POST."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quit(_Turn):
    """End the turn without another call."""


Work: TypeAlias = Send | Record | Prepare | Reconcile | GoOn | Quit
"""The steps that need the lease."""
Step: TypeAlias = Release | Work

UNKNOWN_AGENT_WAIT_S = 60.0


def next_step(snapshot: Snapshot, routing: Routing) -> Step:
    """Decide the next step of one channel user."""
    if snapshot.opted_out and snapshot.turn is None:
        more = len(snapshot.pending) > MAX_TURN_MESSAGES
        ended = tuple(one.id for one in snapshot.pending)
        return Release(due_at=snapshot.now if more else None, opted_out=ended)
    # Only pending messages expire: an open turn may be at Telnyx, and is answered however late.
    expired = tuple(
        one.id for one in snapshot.pending if one.expires_at and one.expires_at <= snapshot.now
    )
    pending = tuple(one for one in snapshot.pending if one.id not in expired)
    if snapshot.turn is None and not pending:
        more = len(snapshot.pending) > MAX_TURN_MESSAGES
        return Release(due_at=snapshot.now if more else None, expired=expired)
    agent = routing.agents.get(snapshot.turn.agent if snapshot.turn else pending[0].agent)
    if agent is None:  # removed from the configuration while messages waited for it
        later = snapshot.now + timedelta(seconds=UNKNOWN_AGENT_WAIT_S)
        return Release(due_at=later, expired=expired, trouble="unknown agent")
    if snapshot.opted_out and snapshot.turn is not None and snapshot.turn.kind is TurnKind.MODEL:
        return Quit(agent=agent.name)
    # Before the open turn is looked at: a gate holds back its retries, too.
    closed = [snapshot.gates.get(name) for name in agent.gates]
    closed_until = max((until for until in closed if until and until > snapshot.now), default=None)
    if closed_until is not None:
        return Release(due_at=closed_until, expired=expired)
    if snapshot.turn is not None:
        return _go_on(snapshot, snapshot.turn, agent.name, routing)
    batch = next_batch(pending)
    if snapshot.paused:
        return Record(agent=agent.name, batch=batch, expired=expired)
    close = _why_close(snapshot, agent, routing.channel(snapshot.who.channel))
    if close is None and _is_ready(snapshot, agent.name, routing):
        return Send(agent=agent.name, batch=batch, expired=expired)
    return Prepare(agent=agent.name, batch=batch, expired=expired, close=close)


def _go_on(snapshot: Snapshot, turn: OpenTurn, agent: str, routing: Routing) -> Step:
    if turn.kind is TurnKind.HUMAN:
        return Record(agent=agent)
    # Before any other step: whatever is sent without a look at the log may be sent twice.
    if turn.doubtful_calls:
        return Reconcile(agent=agent)
    # Even if paused: the thread waits for outputs of tools, which only a call can carry.
    if turn.round > 0 and _is_ready(snapshot, agent, routing):
        return GoOn(agent=agent)
    if snapshot.paused and turn.round == 0:
        return Record(agent=agent)
    return Send(agent=agent) if _is_ready(snapshot, agent, routing) else Prepare(agent=agent)


def _is_ready(snapshot: Snapshot, agent: str, routing: Routing) -> bool:
    """Whether a call may go out at once: on the open conversation, or on none at all."""
    if not routing.channel(snapshot.who.channel).persist:
        return True
    conversation = snapshot.conversation
    return (
        conversation is not None
        and conversation.agent == agent
        and conversation.telnyx_id is not None
        and not conversation.behind
    )


def _why_close(snapshot: Snapshot, agent: Agent, policy: ChannelPolicy) -> str | None:
    """Return the reason why a new turn needs another conversation than the open one."""
    conversation = snapshot.conversation
    if conversation is None or not policy.persist:
        return None
    # Before Telnyx refuses a call because the context is full.
    if conversation.turns >= agent.max_turns:
        return "rotated"
    last = conversation.last_turn_at
    if policy.idle_reset_s is not None and last is not None:
        rested_s = (snapshot.now - last).total_seconds()
        return "idle" if rested_s >= policy.idle_reset_s else None
    return None
