"""Decides what follows a call: a reply, a retry after a wait, or the end of the turn."""

from datetime import datetime

from worker.domain.errors import OperatorError, RetryableError, WorkerError
from worker.domain.people.hand_over import TOOL_NAME, HandOverReason
from worker.domain.people.policies import HandOverTrigger
from worker.domain.reasons import DeadLetterReason
from worker.domain.routing import Agent
from worker.domain.states import ReplySource
from worker.domain.timing import Timing, backoff_s
from worker.domain.turns.calls import (
    CallOutcome,
    Done,
    Fault,
    NotSent,
    Refused,
    ToolCall,
    Unknown,
)
from worker.domain.turns.plan import (
    GateClosing,
    GiveUp,
    HandedOver,
    Later,
    Plan,
    Reply,
    UseTools,
)
from worker.domain.turns.records import OpenTurn


def plan_after(
    outcome: CallOutcome,
    *,
    agent: Agent,
    attempt: int,
    round_: int = 0,
    timing: Timing,
    flowing: bool = False,
) -> Plan | UseTools:
    """Return the plan after one call, the `attempt`-th (from 0) of its round.

    `flowing`: others are answered behind the gate that a refusal would close.
    """
    match outcome:
        case NotSent():
            return Later(wait_s=backoff_s(attempt), reason=outcome.reason)
        case Unknown():
            # Soon: `reconcile` comes first, and may adopt the answer long before a resend is safe.
            return Later(wait_s=timing.look_again_s(0.0), reason=outcome.reason)
        case Done():
            return _after_answer(outcome, agent, round_)
        case Refused():
            return _after_refusal(outcome, agent, attempt=attempt, timing=timing, flowing=flowing)


def _after_answer(done: Done, agent: Agent, round_: int) -> Plan | UseTools:
    if done.tool_calls and done.status == "completed":
        wanted = plan_of_tools(done.tool_calls, agent)
        # A hand-over needs no further round.
        if round_ < agent.max_tool_rounds or isinstance(wanted, HandedOver):
            return wanted
    # A text beside tool calls is no reply: the model wants their outputs first.
    usable = done.status == "completed" or (done.status == "incomplete" and agent.partial_text)
    if usable and done.text.strip() and not done.tool_calls:
        incomplete = done.status != "completed"
        return Reply(text=done.text, source=ReplySource.CALL, incomplete=incomplete)
    if done.refused and agent.hand_over and HandOverTrigger.REFUSAL in agent.hand_over.on:
        return HandedOver(reason=HandOverReason.REFUSAL)
    return GiveUp(
        reason=DeadLetterReason.NO_ANSWER,
        fallback_text=agent.fallback_text,
        landed=True,
        not_run=done.tool_calls,
    )


def plan_of_tools(calls: tuple[ToolCall, ...], agent: Agent) -> UseTools | HandedOver:
    """Return the plan for the tools that a model wants; handing over ends the turn at once."""
    policy = agent.hand_over
    if policy is not None and policy.tool and any(one.name == TOOL_NAME for one in calls):
        return HandedOver(reason=HandOverReason.MODEL, not_run=calls)
    return UseTools(calls=calls)


def gate_after(
    fault: Fault, agent: Agent, status: int | None, wait_s: float | None = None
) -> Later:
    """Return the plan that closes the gate of an account's or a rate's refusal."""
    # Messages wait: a bad key or an empty account must not turn them into dead letters.
    if fault is Fault.ACCOUNT:
        gate = GateClosing(name="account", reason=f"status {status}")
        return Later(wait_s=0.0, reason="account", gate=gate)
    gate = GateClosing(name=f"model:{agent.model}", reason="rate limit", wait_s=wait_s)
    return Later(wait_s=0.0, reason="rate limit", gate=gate)


def _after_refusal(
    refused: Refused, agent: Agent, *, attempt: int, timing: Timing, flowing: bool
) -> Plan:
    match refused.fault:
        case Fault.ACCOUNT | Fault.RATE if flowing:
            # Perhaps it is this message's own: the next look closes the gate if it is not.
            wait_s = max(timing.look_first_s, refused.retry_after_s or 0.0)
            return Later(wait_s=wait_s, reason=f"status {refused.status}")
        case Fault.ACCOUNT | Fault.RATE:
            return gate_after(refused.fault, agent, refused.status, refused.retry_after_s)
        case Fault.SERVER:
            # Telnyx may have stored the turn and failed later: `settle_s` lets the log show it.
            return Later(
                wait_s=max(timing.settle_s, backoff_s(attempt), refused.retry_after_s or 0.0),
                reason=f"status {refused.status}",
            )
        case Fault.REQUEST:
            # Only the thread shows whether the conversation or the message is at fault.
            return Later(wait_s=0.0, reason=f"status {refused.status}")


def plan_without_conversation(error: WorkerError, *, open_s: float) -> Plan:
    """Return the plan when Telnyx's conversations cannot be read or made.

    The wait is the age of the turn, within bounds: it doubles from one attempt to the next.
    """
    wait_s = min(max(open_s, 1.0), 60.0)
    if isinstance(error, OperatorError):
        return Later(wait_s=0.0, reason="account", gate=GateClosing(name="account", reason="key"))
    if isinstance(error, RetryableError) and error.retry_after_s is not None:
        wait_s = max(wait_s, error.retry_after_s)
    return Later(wait_s=wait_s, reason=str(error))


MIN_TRIES = 3
"""Doubtful calls that a turn must have had before time ends it; backoff makes them in a minute."""


def give_up_reason(turn: OpenTurn, *, now: datetime, timing: Timing) -> str | None:
    """Return the reason to try a turn no longer; None = it may be tried again.

    Refusals for a rate limit or by the account do not count: they end by themselves or by an
    operator. Nor does time alone: a turn may have waited for a gate, a slot, or any worker.
    """
    unknown = [call for call in turn.calls if call.outcome_unknown]
    if len(unknown) >= timing.max_unknown_calls:
        return "too many calls of unknown outcome"
    doubtful = [
        call.intent_at for call in turn.calls if call.outcome_unknown or call.fault is Fault.SERVER
    ]
    if len(doubtful) < MIN_TRIES:
        return None
    if (now - min(doubtful)).total_seconds() >= timing.give_up_after_s:
        return "too long since the first call"
    return None
