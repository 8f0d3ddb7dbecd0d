"""Explains why a message waits and what happens next, from the state in Postgres.

    any     ──▶ being erased
    pending ──▶ diverged ▸ behind an open turn ▸ (expires, or: no such agent ▸ gate ▸ paused)
                ▸ debounce ▸ the rate of calls ▸ a worker
    in_turn ──▶ diverged ▸ a worker has it ▸ no such agent ▸ gate ▸ the rate of calls
                ▸ the outcome of its last call
    others  ──▶ `worker.domain.reports.explain_ended`

The first match wins. Keep it in agreement with `worker.domain.turns.next_step`.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from worker.domain.reports.explain_ended import Explanation, MessageStatus, ended
from worker.domain.reports.message_history import (
    CallSummary,
    ClosedGate,
    MessageHistory,
    TurnSummary,
)
from worker.domain.routing import Agent, Routing
from worker.domain.states import CallState, MessageState, ToolCallState, TurnKind
from worker.domain.timing import Timing
from worker.domain.turns.loops import LOOP

_TO_A_PERSON: Final = "it is added to Telnyx's conversation and ends as human: nobody answers it"
_STRANDED: Final = "nothing will take it up: the user has no due time, a defect of the service"
_NOBODY_LIVES: Final = "no worker is alive: start one, then it goes on by itself"
_CAME_TO: Final = {
    CallState.INTENDED: "its worker died in call {call.id}, which Telnyx may have carried out",
    CallState.UNKNOWN: (
        "call {call.id} has no clear answer ({call.reason}); it may have been carried out"
    ),
    CallState.NOT_SENT: "call {call.id} did not leave ({call.reason})",
    CallState.REFUSED: "Telnyx answered {call.status}{code}",
    CallState.DONE: "call {call.id} was answered, and the turn goes on",
}


# The order of the cases is that of `next_step`: a message that is erased, ended or diverged is not
# moved by gates, agents or workers, whatever their state.
def explain(history: MessageHistory, routing: Routing, timing: Timing) -> Explanation:
    """Explain the state of a message."""
    if history.user.erasing_since is not None:
        what = "its channel user is being erased and stopped; the erasure is not finished"
        since, commands = history.user.erasing_since, (f"worker erase {history.user.id}",)
        return Explanation(MessageStatus.ERASING, what, since=since, commands=commands)
    if history.message.state not in {MessageState.PENDING, MessageState.IN_TURN}:
        return ended(history)
    if history.user.diverged_at is not None:
        return _diverged(history)
    turn = history.turn
    found = _in_turn(history, turn, routing, timing) if turn else _pending(history, routing)
    if turn is not None and history.is_behind:
        found = _behind(turn, found)
    if history.workers == 0:
        return replace(found, then=_NOBODY_LIVES, commands=("worker status", *found.commands))
    return found


def _diverged(history: MessageHistory) -> Explanation:
    noted = next((one for one in reversed(history.events) if one.event == "diverged"), None)
    why = f": {noted.facts.get('reason')}" if noted else ""
    user = history.user.id
    return Explanation(
        MessageStatus.DIVERGED,
        f"Telnyx's conversation is not what we know{why}; an operator has to decide",
        since=history.user.diverged_at,
        commands=(
            f"worker conversations show {user}",
            f"worker conversations adopt {user} TELNYX-ID",
            f"worker conversations reset {user}",
        ),
    )


def _behind(turn: TurnSummary, before: Explanation) -> Explanation:
    return replace(
        before,
        status=MessageStatus.BEHIND,
        what=f"turn {turn.id} of the same channel user comes first: {before.what}",
        then=f"{before.then}; after it, this one" if before.then else "after it, this one",
    )


def _pending(history: MessageHistory, routing: Routing) -> Explanation:
    """Explain a message that no turn has taken, while no turn is open."""
    user, now = history.user, history.now
    # Not the message's own agent: the first pending message decides which agent's turn opens.
    agent = user.next_agent or history.message.agent
    then = "its turn opens and Telnyx is asked"
    if history.message.before:
        then = f"{history.message.before} earlier messages go first, or with it in one turn"
    expires_at = history.message.expires_at
    if expires_at is not None and expires_at <= max(user.due_at or now, now):
        # Before agent, gate and pause, which do not matter any more: expiry needs no call.
        then = "it ends as expired"
    elif agent not in routing.agents:
        return _no_agent(history, agent)
    elif (gate := _gate(history, routing, agent)) is not None:
        return _held_back(gate, then if user.paused_at is None else _TO_A_PERSON)
    elif user.paused_at is not None:
        return _paused(history, user.paused_at)
    return _in_line(history, routing, then) or _due(history, then)


_WHY_PAUSED: Final = {
    None: "a person has taken over (worker pause)",
    "echo": "one of our staff wrote to them",
    "hand_over": "the conversation was handed over to our staff",
    LOOP: "the loop breaker paused them: they write like a machine that answers ours",
}


def _paused(history: MessageHistory, since: datetime) -> Explanation:
    user = history.user.id
    return Explanation(
        MessageStatus.PAUSED,
        _WHY_PAUSED[history.user.pause_reason],
        since=since,
        until=history.user.due_at,
        then=_TO_A_PERSON,
        commands=(f'worker say {user} "TEXT"', f"worker resume {user}"),
    )


def _due(history: MessageHistory, then: str) -> Explanation:
    """Explain a message that no gate and no pause holds back."""
    user, now = history.user, history.now
    if user.due_at is None:
        then = "the next message of this channel user takes it along"
        return Explanation(MessageStatus.STRANDED, _STRANDED, then=then)
    status, since = MessageStatus.WORKER, None
    until: datetime | None = user.due_at
    if user.held_until is not None:
        what, until = "a worker has it in hand", user.held_until
    elif user.due_at <= now:
        what, since, until = "the next free worker takes it", user.due_at, None
        if user.surplus:
            what += "; many turns of its sender are due, so others go first (fairness)"
    elif user.due_at == user.waiting_due_at:
        status = MessageStatus.DEBOUNCE
        what = "it waits for more messages (debounce, or for one sent earlier)"
    else:
        status, what = MessageStatus.GATE, "it was held back by a gate that is open again"
    return Explanation(status, what, since=since, until=until, then=then)


def _in_line(history: MessageHistory, routing: Routing, then: str) -> Explanation | None:
    """Explain a message that is due and waits for the rate limit; None = it does not."""
    user, rate = history.user, routing.calls_per_second
    # Only what is due and free waits for the rate: all else waits longer for another reason.
    due = user.due_at is not None and user.due_at <= history.now and user.held_until is None
    if not due or rate is None or history.calls_until is None or history.calls_until <= history.now:
        return None
    what = f"calls go out at {rate:g} a second (calls_per_second), and others are before it"
    return Explanation(MessageStatus.RATE, what, since=user.due_at, then=then)


def _in_turn(
    history: MessageHistory, turn: TurnSummary, routing: Routing, timing: Timing
) -> Explanation:
    """Explain an open turn."""
    agent = routing.agents.get(turn.agent)
    last = history.calls[-1] if history.calls else None
    if history.user.held_until is not None:
        found = _at_work(history, last, agent)
    elif agent is None:
        found = _no_agent(history, turn.agent)
    else:
        then = _after(history, turn, last, timing.quiet_s(agent.call_timeout_s))
        gate = _gate(history, routing, turn.agent)
        found = _held_back(gate, then) if gate else _resting(history, last, then)
        found = (None if gate else _in_line(history, routing, then)) or found
    if history.user.paused_at is not None and turn.kind is TurnKind.MODEL:
        then = f"{found.then}; the reply is withheld, for a person has taken over"
        return replace(found, then=then)
    return found


def _at_work(history: MessageHistory, last: CallSummary | None, agent: Agent | None) -> Explanation:
    until = history.user.held_until
    if last is not None and last.state is CallState.INTENDED:
        until = last.intent_at + timedelta(seconds=agent.call_timeout_s) if agent else until
        what, since = f"Telnyx is being asked (call {last.id})", last.intent_at
        then = "its answer is written and delivered; a timeout is read back, not repeated blind"
        return Explanation(MessageStatus.TELNYX, what, since=since, until=until, then=then)
    if any(one.state is ToolCallState.STARTED for one in history.tools):
        then = "Telnyx is told what came of them"
        return Explanation(MessageStatus.TOOLS, "tools run", until=until, then=then)
    return Explanation(MessageStatus.WORKER, "a worker has it in hand", until=until)


def _resting(history: MessageHistory, last: CallSummary | None, then: str) -> Explanation:
    """Explain an open turn that no worker holds and no gate blocks."""
    due_at = history.user.due_at
    if due_at is None:
        return Explanation(MessageStatus.STRANDED, _STRANDED)
    if last is None:
        # Without a call, the turn can only have stopped at its conversation.
        what = "its Telnyx conversation could not be found, made or written to"
        commands: tuple[str, ...] = ("worker doctor",)
        if due_at <= history.now:
            what, commands = "the next free worker takes it up", ()
        return Explanation(
            MessageStatus.CONVERSATION, what, until=due_at, then=then, commands=commands
        )
    status = MessageStatus.LOOK_BACK if last.outcome_unknown else MessageStatus.RETRY
    code = f", code {last.code}" if last.code else ""
    what = _CAME_TO[last.state].format(call=last, code=code)
    since = last.finished_at or last.intent_at
    return Explanation(status, what, since=since, until=due_at, then=then)


def _after(
    history: MessageHistory, turn: TurnSummary, last: CallSummary | None, quiet_s: float
) -> str:
    """Return the next step of the turn."""
    if turn.kind is TurnKind.HUMAN:
        return "its text is added to Telnyx's conversation; nobody answers"
    if last is None or last.state is CallState.NOT_SENT:
        return "Telnyx is asked"
    if last.state is CallState.DONE:
        return "what its tools gave is sent to Telnyx"
    if turn.conversation_id is None:  # a stateless channel: there is nothing to read
        return "it is sent again, or given up"
    look = "Telnyx's conversation is read; an answer that is there is adopted"
    quiet_at = last.intent_at + timedelta(seconds=quiet_s)
    waits = last.outcome_unknown and quiet_at > history.now
    but = f", but not before {quiet_at:%H:%M:%S}Z" if waits else ""
    return f"{look}, else it is sent again{but}"


def _gate(history: MessageHistory, routing: Routing, name: str) -> ClosedGate | None:
    """Return the gate that holds this agent back for longest."""
    agent = routing.agents.get(name)
    if agent is None:
        return None
    closed = [one for one in history.gates if one.name in agent.gates]
    return max(closed, key=lambda one: one.closed_until, default=None)


def _held_back(gate: ClosedGate, then: str) -> Explanation:
    if gate.reason == "rate limit":
        why = "Telnyx answered 429"
    elif gate.reason.startswith("status "):
        why = f"Telnyx answered {gate.reason.removeprefix('status ')}"
    else:
        why = gate.reason
    what = f"held back with everybody behind gate {gate.name}, because {why}"
    commands = () if gate.reason == "rate limit" else ("worker doctor",)
    until = gate.closed_until
    return Explanation(MessageStatus.GATE, what, until=until, then=then, commands=commands)


def _no_agent(history: MessageHistory, name: str) -> Explanation:
    what = f"the configuration has no agent {name}: put it back into the agents file"
    then = "it goes on when workers were started with it"
    return Explanation(MessageStatus.NO_AGENT, what, until=history.user.due_at, then=then)
