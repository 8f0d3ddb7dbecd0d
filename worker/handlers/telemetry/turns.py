"""Reports turns, calls and tools: log line, counter and span of each step.

docs/how-to/read-the-logs.md lists the events, docs/how-to/trace-a-message.md the spans.

A turn's span is a child of the span that accepted its first message, whose traceparent is in the
row. So all of it is one trace, whichever processes do the work and however often it starts again.

Log lines hold ids, numbers and our own words: never a text, nor a channel's id of a message, which
may hold an address. Attributes without `worker.` are OpenTelemetry's: messaging, http, gen_ai,
error.
"""

import threading
from collections.abc import Collection
from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import Any, Final

from worker.domain.errors import WorkerError
from worker.domain.ids import ChannelUserId, TurnId
from worker.domain.people.hand_over import HandOverReason
from worker.domain.states import ReplySource
from worker.domain.tools import ToolResult
from worker.domain.turns.calls import CallOutcome, Done, Fault, NotSent, Refused, ToolCall, Unknown
from worker.domain.turns.claim import Claimed, NotClaimed
from worker.domain.turns.next_step import Reconcile
from worker.domain.turns.plan import Diverge, GiveUp, Later, Plan, Replace, Reply
from worker.domain.turns.records import ToolRecord
from worker.net.clock import boottime
from worker.observability import metrics, traces
from worker.observability.logs import log

POST: Final = "POST /ai/openai/responses"

# A thread works on one claim at a time, so its POSTs and tools are those of that claim.
_elsewhere = threading.local()
"""`seconds` that this thread's claim has spent in POSTs and tools so far."""


def record_not_claimed(user_id: ChannelUserId, claim: NotClaimed) -> None:
    """Report the messages that a claim ended without a turn, and what it waits for."""
    step = claim.release
    if step is None:
        return
    if claim.loop is not None:
        record_loop(user_id, claim.loop)
    if claim.hand_over is not None:
        record_handed_over(user_id, claim.agent, claim.hand_over)
    if step.expired:
        log.info("message.expired", user=user_id, messages=list(step.expired))
    if step.over_budget:
        log.info("message.over_budget", user=user_id, messages=list(step.over_budget))
    if step.opted_out:
        log.info("message.opted_out", user=user_id, messages=list(step.opted_out))
    if step.trouble:
        log.error("turn.waits_for_operator", user=user_id, why=step.trouble)


def turn_span(claimed: Claimed) -> AbstractContextManager[None]:
    """Trace the work of one claim on a turn."""
    turn = claimed.turn
    parents = turn.traceparents
    # Saved searches and dashboards know this step by the former name of its class.
    step = "LookBack" if isinstance(claimed.step, Reconcile) else type(claimed.step).__name__
    return traces.span(
        "turn",
        lambda: {
            "worker.turn": turn.id,
            "worker.user": claimed.lease.user_id,
            "worker.kind": turn.kind.value,
            "worker.messages": turn.messages,
            "worker.step": step,
            "gen_ai.agent.name": claimed.agent.name,
        },
        parent=parents[0] if parents else None,
        links=parents[1:],
    )


def record_claimed(claimed: Claimed) -> None:
    """Report a claim: how long a new turn's messages have waited, and which have expired."""
    step = claimed.step
    accepted = [one.accepted_at for one in step.batch if one.accepted_at is not None]
    if accepted:
        metrics.QUEUE.observe((claimed.now - min(accepted)).total_seconds())
    if step.expired:
        log.info("message.expired", user=claimed.lease.user_id, messages=list(step.expired))
    if claimed.loop is not None:
        record_loop(claimed.lease.user_id, claimed.loop)


def record_loop(user_id: ChannelUserId, rule: str) -> None:
    """Report that the loop breaker has paused a user."""
    metrics.LOOPS.labels(rule).inc()
    log.error("user.loop_paused", user=user_id, rule=rule)


def record_handed_over(
    user_id: ChannelUserId, agent: str, reason: HandOverReason, turn: TurnId | None = None
) -> None:
    """Report that a person of our staff has to answer. `turn`: None = none is open yet."""
    metrics.HAND_OVERS.labels(agent, reason.value).inc()
    log.warning("user.handed_over", user=user_id, turn=turn, reason=reason.value)


def record_worked(seconds: float) -> None:
    """Count the time of a whole claim; POSTs and tools of this thread are taken off."""
    elsewhere_s = getattr(_elsewhere, "seconds", 0.0)
    # For the next claim of this thread.
    _elsewhere.seconds = 0.0
    metrics.OWN.observe(max(seconds - elsewhere_s, 0.0))


def record_elsewhere(seconds: float) -> None:
    """Take the time of a POST or of tools off the time of this thread's claim."""
    _elsewhere.seconds = getattr(_elsewhere, "seconds", 0.0) + seconds


def record_stale_turn(claimed: Claimed) -> None:
    """Report a turn that another worker took over."""
    metrics.STALE_LEASES.labels("turn").inc()
    log.warning("lease.stale", user=claimed.lease.user_id, token=claimed.lease.token)


def record_conversation_failed(claimed: Claimed, error: WorkerError) -> None:
    """Report a failure of Telnyx's conversations that makes the turn wait."""
    metrics.CONVERSATION_FAILURES.labels(type(error).__name__).inc()
    log.warning("conversation.failed", turn=claimed.turn.id, error=str(error))


def post_span(claimed: Claimed) -> AbstractContextManager[None]:
    """Trace one call of the model. Telnyx gets no traceparent."""
    intent, conversation = claimed.committed_intent, claimed.conversation
    remote = conversation.telnyx_id if conversation else None
    return traces.span(
        POST,
        lambda: {
            "worker.call": intent.call_id,
            "worker.round": intent.round,
            "http.request.method": "POST",
            "http.request.resend_count": intent.attempt or None,
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "telnyx",
            "gen_ai.request.model": claimed.agent.model,
            "gen_ai.conversation.id": str(remote) if remote else None,
        },
        kind=traces.Kind.CLIENT,
    )


def record_post(claimed: Claimed, outcome: CallOutcome, *, seconds: float) -> None:
    """Report one POST: its outcome, its time and the tokens it used."""
    agent, name = claimed.agent.name, type(outcome).__name__
    attributes = _call_attributes(outcome)
    status = attributes.get("http.response.status_code")
    metrics.POSTS.labels(agent, name, "none" if status is None else str(status)).inc()
    metrics.TELNYX.labels(agent).observe(seconds)
    record_elsewhere(seconds)
    # Attempts of one round count from 0; a new round of tools is no repetition.
    if claimed.committed_intent.attempt > 0:
        metrics.REPEATS.labels(agent).inc()
    if isinstance(outcome, Done):
        metrics.TOKENS.labels(agent, "input").inc(outcome.input_tokens)
        metrics.TOKENS.labels(agent, "output").inc(outcome.output_tokens)
    traces.note(lambda: {**attributes, "worker.outcome": name})


def _call_attributes(outcome: CallOutcome) -> traces.Facts:
    match outcome:
        case Done():
            return {
                "http.response.status_code": int(HTTPStatus.OK),
                "gen_ai.response.id": outcome.response_id,
                "gen_ai.usage.input_tokens": outcome.input_tokens,
                "gen_ai.usage.output_tokens": outcome.output_tokens,
            }
        case Refused():
            return {
                "http.response.status_code": outcome.status,
                "error.type": str(outcome.status),
                "worker.fault": outcome.fault,
            }
        case Unknown():
            return {"http.response.status_code": outcome.status, "error.type": "Unknown"}
        case NotSent():
            return {"error.type": "NotSent"}


def record_tools_wanted(
    claimed: Claimed, outcome: CallOutcome, calls: Collection[ToolCall]
) -> None:
    """Report a call that ended with the model asking for tools."""
    log.info(
        "turn.uses_tools",
        user=claimed.lease.user_id,
        turn=claimed.turn.id,
        call=claimed.committed_intent.call_id,
        tools=len(calls),
        **_call_fields(outcome),
    )


def tool_span(record: ToolRecord, *, configured: bool) -> AbstractContextManager[None]:
    """Trace one run of a tool. `configured`: otherwise the model made its name up."""
    return traces.span(
        f"execute_tool {record.name}" if configured else "execute_tool",
        lambda: {
            "worker.turn": record.turn_id,
            "worker.round": record.round,
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": record.name if configured else None,
        },
    )


def record_tool_ran(record: ToolRecord, result: ToolResult, *, configured: bool) -> None:
    """Report the end of one tool."""
    if configured:
        metrics.TOOL_RUNS.labels(record.name, result.state).inc()
    traces.note(lambda: {"worker.state": result.state})
    log.info(
        "tool.ran",
        turn=record.turn_id,
        round=record.round,
        # Any other name is text that the model wrote.
        tool=record.name if configured else None,
        state=result.state,
        reason=result.reason,
    )


def record_settled(claimed: Claimed, outcome: CallOutcome | None, plan: Plan) -> None:
    """Report how a claim ended: at error if a person has to act, at info if all is well.

    `duration_ms` counts from the claim. `messages` are the rows that the turn answers; only the
    claim that opened the turn logs them.
    """
    outcome_name = None if outcome is None else type(outcome).__name__
    # A reply that was found in the thread counts separately.
    adopted = isinstance(plan, Reply) and plan.source is ReplySource.ADOPTED
    label = "Adopted" if adopted else type(plan).__name__
    metrics.SETTLED.labels(claimed.agent.name, label, outcome_name or "none").inc()
    traces.note(lambda: {"worker.plan": type(plan).__name__, "worker.outcome": outcome_name})
    fields: dict[str, Any] = {"user": claimed.lease.user_id, "turn": claimed.turn.id}
    # Steps on a turn that an earlier claim opened have no batch.
    if claimed.step.batch:
        fields["messages"] = [one.id for one in claimed.step.batch]
    fields["call"] = claimed.intent and claimed.intent.call_id
    fields |= _call_fields(outcome)
    fields["plan"] = type(plan).__name__
    if isinstance(plan, GiveUp | Later | Replace | Diverge):
        fields["reason"] = plan.reason
    if isinstance(plan, Later):
        fields["wait_s"] = plan.wait_s
    write = log.info
    refused_us = isinstance(outcome, Refused) and outcome.fault is Fault.ACCOUNT
    if refused_us or isinstance(plan, Diverge):
        write = log.error
    elif isinstance(plan, GiveUp | Replace):
        write = log.warning
    duration_ms = round((boottime() - claimed.claimed_at_s) * 1000)
    write("turn.settled", **fields, duration_ms=duration_ms)


def _call_fields(outcome: CallOutcome | None) -> dict[str, Any]:
    """Return the ids by which Telnyx's support finds the call on their side."""
    ids: dict[str, Any]
    match outcome:
        case None:
            return {}
        case Done():
            ids = {"response": outcome.response_id, "request": outcome.request_id}
        case Refused() | Unknown():
            ids = {"status": outcome.status, "request": outcome.request_id}
        case NotSent():
            ids = {}
    return {"outcome": type(outcome).__name__, **ids}


def record_compared(claimed: Claimed, *, skipped: int, landed: bool) -> None:
    """Log that a conversation was compared with our records, after a loss of commits."""
    log.warning(
        "conversation.compared",
        user=claimed.lease.user_id,
        turn=claimed.turn.id,
        skipped=skipped,
        landed=landed,
    )
