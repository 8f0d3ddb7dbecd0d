"""Reports deliveries: log line, counter and span of each attempt."""

from contextlib import AbstractContextManager

from worker.domain.deliveries import ClaimedDelivery, DeliveryOutcome, Sent
from worker.domain.states import DeliveryState
from worker.handlers.telemetry.intake import record_consent
from worker.net.clock import boottime
from worker.observability import metrics, traces
from worker.observability.logs import log
from worker.store.delivery.receipts import Recorded


def deliver_span(claimed: ClaimedDelivery, *, as_task: bool) -> AbstractContextManager[None]:
    """Trace one attempt to deliver; `as_task`: a producer's Celery task takes the reply."""
    return traces.span(
        "deliver",
        lambda: {
            "worker.delivery": claimed.reply.delivery_id,
            "worker.turn": claimed.turn_id,
            "worker.user": claimed.reply.user_id,
            "worker.way_out": claimed.policy_name,
            "worker.attempt": claimed.attempts + 1,
            # The receiver's name for it: the `webhook-id`, or the id of the task.
            "messaging.message.id": str(claimed.reply.idempotency_key),
        },
        kind=traces.Kind.PRODUCER if as_task else traces.Kind.CLIENT,
        parent=claimed.traceparent,
    )


def record_delivered(
    claimed: ClaimedDelivery,
    state: DeliveryState,
    outcome: DeliveryOutcome | None,
    *,
    began_s: float,
) -> None:
    """Report how an attempt ended; `outcome` None = the policy allowed no attempt."""
    reply = claimed.reply
    name = None if outcome is None else type(outcome).__name__
    if outcome is not None:
        # Not by channel: an envelope may name any. A way out is always in the configuration.
        metrics.DELIVERIES.labels(claimed.policy_name, state).inc()
    traces.note(
        lambda: {
            "worker.state": state.value,
            "worker.outcome": name,
            "error.type": None if isinstance(outcome, Sent) else name,
        }
    )
    write = log.error if state is DeliveryState.FAILED else log.info
    write(
        "delivery.ended",
        user=reply.user_id,
        turn=claimed.turn_id,
        delivery=reply.delivery_id,
        key=str(reply.idempotency_key),
        attempt=claimed.attempts + 1,
        outcome=name,
        state=state,
        duration_ms=round((boottime() - began_s) * 1000),
    )


def record_stale_delivery(claimed: ClaimedDelivery) -> None:
    """Report a delivery that another worker took over."""
    metrics.STALE_LEASES.labels("delivery").inc()
    log.warning("delivery.stale", delivery=claimed.reply.delivery_id)


def record_receipt(recorded: Recorded) -> None:
    """Report a delivery that the provider has told more of."""
    metrics.RECEIPTS.labels(recorded.way_out, recorded.receipt).inc()
    if recorded.blocked is not None:
        record_consent(recorded.blocked, user_id=recorded.user_id)
    log.info(
        "delivery.reported",
        delivery=recorded.id,
        user=recorded.user_id,
        state=recorded.state,
        receipt=recorded.receipt,
        repeated=recorded.repeated,
    )
