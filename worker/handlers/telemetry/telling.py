"""What becomes of messages, turns and deliveries, told in the log: one line for each change.

    message.accepted   message, user
    turn.settled       user, turn, messages, call, outcome, plan, response, request, duration_ms
    delivery.ended     user, turn, delivery, key, outcome, state, duration_ms

Each also has the id of the Celery task in which it happened, as `task`
(worker/queue/gate/base_task.py).

So a message is followed from its producer's task id to Telnyx's response id by searching for one
id after the other. Only ids, numbers and words of ours: never what anybody wrote, nor a channel's
id of a message, which may hold an address.
"""

from collections.abc import Collection
from typing import Any

from worker.domain.deliveries import ClaimedDelivery, DeliveryOutcome
from worker.domain.ids import ChannelUserId, MessageRowId
from worker.domain.states import DeliveryState
from worker.domain.turns.calls import CallOutcome, Done, Fault, NotSent, Refused, ToolCall, Unknown
from worker.domain.turns.claim import Claimed, NotClaimed
from worker.domain.turns.next_step import GoOn, Reconcile
from worker.domain.turns.plan import Diverge, GiveUp, Later, Plan, Replace
from worker.net.clock import boottime
from worker.observability.logs import log


def tell_settled(claimed: Claimed, outcome: CallOutcome | None, plan: Plan) -> None:
    """Say how a turn's work ended: at error where a person has to act, at info where all is well.

    `duration_ms` counts from the claim. `messages` are the rows that the turn answers, where this
    claim opened it: a later line about the same turn does not repeat them.
    """
    facts: dict[str, Any] = {"user": claimed.lease.user_id, "turn": claimed.turn.id}
    if not isinstance(claimed.step, Reconcile | GoOn) and claimed.step.batch:
        facts["messages"] = [one.id for one in claimed.step.batch]
    facts["call"] = claimed.intent and claimed.intent.call_id
    facts |= _of_call(outcome)
    facts["plan"] = type(plan).__name__
    if isinstance(plan, GiveUp | Later | Replace | Diverge):
        facts["reason"] = plan.reason
    if isinstance(plan, Later):
        facts["wait_s"] = plan.wait_s
    tell = log.info
    if isinstance(plan, Diverge) or _is_for_operator(outcome):
        tell = log.error
    elif isinstance(plan, GiveUp | Replace):
        tell = log.warning
    tell("turn.settled", **facts, duration_ms=_ms_since(claimed.claimed_at_s))


def tell_tools_wanted(claimed: Claimed, outcome: CallOutcome, calls: Collection[ToolCall]) -> None:
    """Say that a call ended with the model asking for tools: the turn goes on."""
    log.info(
        "turn.uses_tools",
        user=claimed.lease.user_id,
        turn=claimed.turn.id,
        call=claimed.committed_intent.call_id,
        tools=len(calls),
        **_of_call(outcome),
    )


def _of_call(outcome: CallOutcome | None) -> dict[str, Any]:
    """Give what Telnyx would want to know, to find the call on its side."""
    if outcome is None:
        return {}
    facts: dict[str, Any] = {"outcome": type(outcome).__name__}
    match outcome:
        case Done():
            facts |= {"response": outcome.response_id, "request": outcome.request_id}
        case Refused() | Unknown():
            facts |= {"status": outcome.status, "request": outcome.request_id}
        case NotSent():
            pass
    return facts


def _is_for_operator(outcome: CallOutcome | None) -> bool:
    return isinstance(outcome, Refused) and outcome.fault is Fault.ACCOUNT


def tell_expired(user_id: ChannelUserId, messages: Collection[MessageRowId]) -> None:
    """Say which messages nobody answers any more, because their time was over."""
    log.info("message.expired", user=user_id, messages=list(messages))


def tell_ended(user_id: ChannelUserId, claim: NotClaimed) -> None:
    """Say which messages nobody answers any more: too old, or beyond their agent's budget."""
    if claim.expired:
        tell_expired(user_id, claim.expired)
    if claim.over_budget:
        log.info("message.over_budget", user=user_id, messages=list(claim.over_budget))


def tell_delivered(
    claimed: ClaimedDelivery,
    state: DeliveryState,
    outcome: DeliveryOutcome | None,
    *,
    began_s: float,
) -> None:
    """Say how an attempt ended; `outcome` None = there was none to make.

    `key` is what the receiver knows it by: the `webhook-id`, or the id of the task.
    """
    reply = claimed.reply
    tell = log.error if state is DeliveryState.FAILED else log.info
    tell(
        "delivery.ended",
        user=reply.user_id,
        turn=claimed.turn_id,
        delivery=reply.delivery_id,
        key=str(reply.idempotency_key),
        attempt=claimed.attempts + 1,
        outcome=outcome and type(outcome).__name__,
        state=state,
        duration_ms=_ms_since(began_s),
    )


def _ms_since(began_s: float) -> int:
    return round((boottime() - began_s) * 1000)
