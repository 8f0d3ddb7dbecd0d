"""What accepting, turns, calls and deliveries are in the words of the tracer.

accept ─┬─ turn ─┬─ POST /ai/openai/responses
        │        ├─ execute_tool NAME
        │        └─ telnyx find, telnyx create conversation, …
        └─ deliver

Turns and deliveries are children of what accepted their first message, whose context is in its row:
so it is one trace, whichever processes do the work, and however often one has to begin anew.

Names without `worker.` are OpenTelemetry's: messaging, http, gen_ai, error.
"""

from contextlib import AbstractContextManager
from typing import Final, TypeAlias

from worker.domain.deliveries import ClaimedDelivery, DeliveryOutcome, Sent
from worker.domain.messages import Accepted
from worker.domain.states import DeliveryState
from worker.domain.turns.calls import CallOutcome, Done, NotSent, Refused, Unknown
from worker.domain.turns.claim import Claimed
from worker.domain.turns.next_step import Reconcile
from worker.domain.turns.plan import Plan
from worker.domain.turns.records import ToolRecord
from worker.observability.traces import Facts, Kind, Tracer

Span: TypeAlias = AbstractContextManager[None]

INBOUND: Final = "inbound"
POST: Final = "POST /ai/openai/responses"


def accept_span(
    tracer: Tracer, *, queue: str, parent: str | None, refused: str | None = None
) -> Span:
    """Trace the acceptance of an envelope. `refused`: why it is none."""

    def facts() -> Facts:
        return {
            "messaging.system": "celery" if queue == INBOUND else "postgresql",
            "messaging.destination.name": queue,
            "messaging.operation.name": "accept",
            "messaging.operation.type": "process",
            "error.type": refused,
        }

    return tracer.span("accept", facts, kind=Kind.CONSUMER, parent=parent)


def note_accepted(tracer: Tracer, accepted: Accepted) -> None:
    """Say which row it became."""
    tracer.note(
        lambda: {
            "worker.message": accepted.id,
            "worker.user": accepted.user_id,
            "worker.result": accepted.result,
        }
    )


def turn_span(tracer: Tracer, claimed: Claimed) -> Span:
    """Trace the work of one claim on a turn."""
    turn = claimed.turn

    def facts() -> Facts:
        return {
            "worker.turn": turn.id,
            "worker.user": claimed.lease.user_id,
            "worker.kind": turn.kind.value,
            "worker.messages": turn.messages,
            # Saved searches and dashboards know this step by its former class name.
            "worker.step": "LookBack"
            if isinstance(claimed.step, Reconcile)
            else type(claimed.step).__name__,
            "gen_ai.agent.name": claimed.agent.name,
        }

    parents = turn.traceparents
    return tracer.span("turn", facts, parent=parents[0] if parents else None, links=parents[1:])


def note_settled(tracer: Tracer, outcome: CallOutcome | None, plan: Plan) -> None:
    """Say how the claim ended."""
    tracer.note(
        lambda: {
            "worker.plan": type(plan).__name__,
            "worker.outcome": None if outcome is None else type(outcome).__name__,
        }
    )


def post_span(tracer: Tracer, claimed: Claimed) -> Span:
    """Trace one call of the model. Telnyx is not told of the trace."""

    def facts() -> Facts:
        intent, conversation = claimed.committed_intent, claimed.conversation
        remote = conversation.telnyx_id if conversation else None
        return {
            "worker.call": intent.call_id,
            "worker.round": intent.round,
            "http.request.method": "POST",
            "http.request.resend_count": intent.attempt or None,
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "telnyx",
            "gen_ai.request.model": claimed.agent.model,
            "gen_ai.conversation.id": str(remote) if remote else None,
        }

    return tracer.span(POST, facts, kind=Kind.CLIENT)


def note_post(tracer: Tracer, outcome: CallOutcome) -> None:
    """Say what came back."""
    tracer.note(lambda: {**_of_call(outcome), "worker.outcome": type(outcome).__name__})


def _of_call(outcome: CallOutcome) -> Facts:
    match outcome:
        case Done():
            return {
                "http.response.status_code": 200,
                "gen_ai.response.id": outcome.response_id,
                "gen_ai.usage.input_tokens": outcome.usage.input_tokens,
                "gen_ai.usage.output_tokens": outcome.usage.output_tokens,
            }
        case Refused():
            status = {"http.response.status_code": outcome.status}
            return {**status, "error.type": str(outcome.status), "worker.fault": outcome.fault}
        case Unknown():
            return {"http.response.status_code": outcome.status, "error.type": "Unknown"}
        case NotSent():
            return {"error.type": "NotSent"}


def tool_span(tracer: Tracer, record: ToolRecord, *, ours: bool) -> Span:
    """Trace one run of a tool. `ours`: else its name is the model's own words."""

    def facts() -> Facts:
        return {
            "worker.turn": record.turn_id,
            "worker.round": record.round,
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": record.name if ours else None,
        }

    return tracer.span(f"execute_tool {record.name}" if ours else "execute_tool", facts)


def deliver_span(tracer: Tracer, claimed: ClaimedDelivery, *, as_task: bool) -> Span:
    """Trace one attempt to deliver."""

    def facts() -> Facts:
        return {
            "worker.delivery": claimed.reply.delivery_id,
            "worker.turn": claimed.turn_id,
            "worker.user": claimed.reply.user_id,
            "worker.way_out": claimed.policy_name,
            "worker.attempt": claimed.attempts + 1,
            # What the receiver knows it by.
            "messaging.message.id": str(claimed.reply.idempotency_key),
        }

    kind = Kind.PRODUCER if as_task else Kind.CLIENT
    return tracer.span("deliver", facts, kind=kind, parent=claimed.traceparent)


def note_delivered(tracer: Tracer, state: DeliveryState, outcome: DeliveryOutcome) -> None:
    """Say how the attempt ended."""

    def facts() -> Facts:
        word = type(outcome).__name__
        failed = None if isinstance(outcome, Sent) else word
        return {"worker.state": state.value, "worker.outcome": word, "error.type": failed}

    tracer.note(facts)
