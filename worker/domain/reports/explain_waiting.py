"""What a message waits for now and what happens next, decided from what Postgres holds.

    any     ──▶ being erased
    pending ──▶ diverged ▸ behind an open turn ▸ (expires, or: no such agent ▸ gate ▸ paused)
                ▸ debounce ▸ the rate of calls ▸ a worker
    in_turn ──▶ diverged ▸ somebody is at it ▸ no such agent ▸ gate ▸ the rate of calls
                ▸ what its last call came to
    others  ──▶ `worker.domain.reports.explain_ended`

The first match wins. Keep it in agreement with `worker.domain.turns.next_step`.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from worker.domain.reports.explain_ended import Fate, Outlook, ended
from worker.domain.reports.message_life import ClosedGate, Life, LifeCall, LifeTurn
from worker.domain.routing import Routing
from worker.domain.states import CallState, MessageState, ToolCallState, TurnKind
from worker.domain.timing import Timing
from worker.domain.turns.next_step import gate_names

_TO_A_PERSON: Final = "it is added to Telnyx's conversation and ends as human: nobody answers it"
_NOBODY_LIVES: Final = "no worker is alive: start one, then it goes on by itself"


def outlook(life: Life, routing: Routing, timing: Timing) -> Outlook:
    """Say where a message stands."""
    if life.user.erasing_since is not None:
        return _erasing(life)
    if life.message.state not in {MessageState.PENDING, MessageState.IN_TURN}:
        return ended(life)
    if life.user.diverged_at is not None:
        return _diverged(life)
    if life.turn is None:
        found = _pending(life, routing)
    elif life.is_behind:
        found = _behind(life.turn, _in_turn(life, life.turn, routing, timing))
    else:
        found = _in_turn(life, life.turn, routing, timing)
    if life.workers == 0:
        return replace(found, then=_NOBODY_LIVES, commands=("worker status", *found.commands))
    return found


def _erasing(life: Life) -> Outlook:
    return Outlook(
        fate=Fate.ERASING,
        what="its person is being erased, and that has not been finished; he is stopped",
        since=life.user.erasing_since,
        commands=(f"worker erase {life.user.id}",),
    )


def _diverged(life: Life) -> Outlook:
    noted = next((one for one in reversed(life.events) if one.event == "diverged"), None)
    why = f": {noted.facts.get('reason')}" if noted else ""
    user = life.user.id
    return Outlook(
        fate=Fate.DIVERGED,
        what=f"Telnyx's conversation is not what we know{why}; an operator has to decide",
        since=life.user.diverged_at,
        commands=(
            f"worker conversations show {user}",
            f"worker conversations adopt {user} TELNYX-ID",
            f"worker conversations reset {user}",
        ),
    )


def _behind(turn: LifeTurn, before: Outlook) -> Outlook:
    return replace(
        before,
        fate=Fate.BEHIND,
        what=f"turn {turn.id} of the same person comes first: {before.what}",
        then=f"{before.then}; after it, this one" if before.then else "after it, this one",
    )


def _pending(life: Life, routing: Routing) -> Outlook:
    """Say what a message waits for that no turn has taken, while none is open."""
    user, now = life.user, life.now
    agent = user.next_agent or life.message.agent  # whoever comes first opens the line
    then = "its turn opens and Telnyx is asked"
    if life.message.before:
        then = f"{life.message.before} earlier messages go first, or with it in one turn"
    expires_at = life.message.expires_at
    if expires_at is not None and expires_at <= max(user.due_at or now, now):
        then = "it ends as expired"  # whoever has to answer, and whether he may
    elif agent not in routing.agents:
        return _no_agent(life, agent)
    elif (gate := _gate(life, routing, agent)) is not None:
        return _held_back(gate, then if user.paused_at is None else _TO_A_PERSON)
    elif user.paused_at is not None:
        return _paused(life, user.paused_at)
    return _in_line(life, routing, then) or _due(life, then)


def _paused(life: Life, since: datetime) -> Outlook:
    user = life.user.id
    return Outlook(
        fate=Fate.PAUSED,
        what="a person has taken over (worker pause)",
        since=since,
        until=life.user.due_at,
        then=_TO_A_PERSON,
        commands=(f'worker say {user} "TEXT"', f"worker resume {user}"),
    )


def _due(life: Life, then: str) -> Outlook:
    """Say what a message that nothing holds back waits for."""
    user, now = life.user, life.now
    if user.due_at is None:
        return Outlook(
            fate=Fate.STRANDED,
            what="nothing will take it up: its person has no due time, which is a defect of ours",
            then="the next message of this person takes it along",
        )
    if user.held_until is not None:
        what = "a worker has it in hand"
        return Outlook(fate=Fate.WORKER, what=what, until=user.held_until, then=then)
    if user.due_at <= now:
        what = "the next free worker takes it"
        return Outlook(fate=Fate.WORKER, what=what, since=user.due_at, then=then)
    if user.due_at == user.waiting_due_at:
        what = "it waits for more messages (debounce, or for one sent earlier)"
        return Outlook(fate=Fate.DEBOUNCE, what=what, until=user.due_at, then=then)
    what = "it was held back by a gate that is open again"
    return Outlook(fate=Fate.GATE, what=what, until=user.due_at, then=then)


def _in_line(life: Life, routing: Routing, then: str) -> Outlook | None:
    """Say that it is due and waits for its moment; None = it does not."""
    user, rate = life.user, routing.calls_per_second
    due = user.due_at is not None and user.due_at <= life.now and user.held_until is None
    if not due or rate is None or life.calls_until is None or life.calls_until <= life.now:
        return None
    return Outlook(
        fate=Fate.RATE,
        what=f"calls go out at {rate:g} a second (calls_per_second), and others are before it",
        since=user.due_at,
        then=then,
    )


def _in_turn(life: Life, turn: LifeTurn, routing: Routing, timing: Timing) -> Outlook:
    """Say what an open turn waits for."""
    agent = routing.agents.get(turn.agent)
    last = life.calls[-1] if life.calls else None
    if life.user.held_until is not None:
        found = _at_work(life, last)
        if found.fate is Fate.TELNYX and last is not None and agent is not None:
            until = last.intent_at + timedelta(seconds=agent.call_timeout_s)
            found = replace(found, until=until)
    elif agent is None:
        found = _no_agent(life, turn.agent)
    elif (gate := _gate(life, routing, turn.agent)) is not None:
        found = _held_back(gate, _after(life, turn, last, timing.quiet_s(agent.call_timeout_s)))
    else:
        found = _resting(life, turn, last, timing.quiet_s(agent.call_timeout_s))
        found = _in_line(life, routing, found.then) or found
    if life.user.paused_at is not None and turn.kind is TurnKind.MODEL:
        then = f"{found.then}; the reply is withheld, for a person has taken over"
        return replace(found, then=then)
    return found


def _at_work(life: Life, last: LifeCall | None) -> Outlook:
    until = life.user.held_until
    if last is not None and last.state is CallState.INTENDED:
        return Outlook(
            fate=Fate.TELNYX,
            what=f"Telnyx is being asked (call {last.id})",
            since=last.intent_at,
            until=until,
            then="its answer is written and delivered; a timeout is read back, not repeated blind",
        )
    if any(one.state is ToolCallState.STARTED for one in life.tools):
        return Outlook(
            fate=Fate.TOOLS, what="tools run", until=until, then="Telnyx is told what came of them"
        )
    return Outlook(fate=Fate.WORKER, what="a worker has it in hand", until=until)


def _resting(life: Life, turn: LifeTurn, last: LifeCall | None, quiet_s: float) -> Outlook:
    """Say why an open turn, that nobody has in hand and no gate holds, is not taken up yet."""
    then = _after(life, turn, last, quiet_s)
    due_at = life.user.due_at
    if due_at is None:
        what = "nothing will take it up: its person has no due time, which is a defect of ours"
        return Outlook(fate=Fate.STRANDED, what=what)
    if last is None:
        what = "its Telnyx conversation could not be found, made or written to"
        if due_at <= life.now:
            what = "the next free worker takes it up"
        return Outlook(fate=Fate.CONVERSATION, what=what, until=due_at, then=then)
    return Outlook(
        fate=Fate.LOOK_BACK if _is_doubtful(last) else Fate.RETRY,
        what=_came_to(last),
        since=last.finished_at or last.intent_at,
        until=due_at,
        then=then,
    )


def _came_to(last: LifeCall) -> str:
    match last.state:
        case CallState.INTENDED:
            return f"its worker died in call {last.id}, which Telnyx may have carried out"
        case CallState.UNKNOWN:
            return (
                f"call {last.id} has no clear answer ({last.reason}); it may have been carried out"
            )
        case CallState.NOT_SENT:
            return f"call {last.id} did not leave ({last.reason})"
        case CallState.REFUSED:
            code = f", code {last.code}" if last.code else ""
            return f"Telnyx answered {last.status}{code}"
        case CallState.DONE:
            return f"call {last.id} was answered, and the turn goes on"


def _after(life: Life, turn: LifeTurn, last: LifeCall | None, quiet_s: float) -> str:
    """Say what is done when the turn is taken up again."""
    if turn.kind is TurnKind.HUMAN:
        return "its words are added to Telnyx's conversation; nobody answers"
    if last is None or last.state is CallState.NOT_SENT:
        return "Telnyx is asked"
    if last.state is CallState.DONE:
        return "what its tools gave is sent to Telnyx"
    if turn.conversation_id is None:  # a stateless channel: there is nothing to read
        return "it is sent again, or given up"
    look = "Telnyx's conversation is read; an answer that is there is adopted"
    if not _is_doubtful(last):
        return f"{look}, else it is sent again"
    quiet_at = last.intent_at + timedelta(seconds=quiet_s)
    if quiet_at <= life.now:
        return f"{look}, else it is sent again"
    return f"{look}, else it is sent again, but not before {quiet_at:%H:%M:%S}Z"


def _is_doubtful(call: LifeCall) -> bool:
    return call.state in {CallState.INTENDED, CallState.UNKNOWN}


def _gate(life: Life, routing: Routing, name: str) -> ClosedGate | None:
    """Give the gate that holds this agent back for longest."""
    agent = routing.agents.get(name)
    if agent is None:
        return None
    names = gate_names(agent=agent.name, model=agent.model)
    closed = [one for one in life.gates if one.name in names]
    return max(closed, key=lambda one: one.closed_until, default=None)


def _held_back(gate: ClosedGate, then: str) -> Outlook:
    if gate.reason == "rate limit":
        why = "Telnyx answered 429"
    elif gate.reason.startswith("status "):
        why = f"Telnyx answered {gate.reason.removeprefix('status ')}"
    else:
        why = gate.reason
    return Outlook(
        fate=Fate.GATE,
        what=f"held back with everybody behind gate {gate.name}, because {why}",
        until=gate.closed_until,
        then=then,
        commands=() if gate.reason == "rate limit" else ("worker doctor",),
    )


def _no_agent(life: Life, name: str) -> Outlook:
    return Outlook(
        fate=Fate.NO_AGENT,
        what=f"the configuration has no agent {name}: put it back into the agents file",
        until=life.user.due_at,
        then="it goes on when workers were started with it",
    )
