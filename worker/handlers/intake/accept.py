"""Accepts one message. A committed message ends in exactly one outcome."""

from message_worker_client.envelope.wire import INBOUND
from worker.domain.messages import Accepted, NewMessage
from worker.handlers.telemetry.intake import accept_span, record_accepted
from worker.observability import traces
from worker.store.intake.messages import MessageStore


def commit(
    messages: MessageStore,
    message: NewMessage,
    *,
    starts_itself: bool,
    traceparent: str | None = None,
) -> Accepted:
    """Commit a message; a repetition changes nothing. Raises `DatabaseAwayError`.

    `starts_itself`: the caller starts the turn if the message is first in line. `traceparent`: the
    producer's.
    """
    with accept_span(queue=INBOUND, parent=traceparent):
        accepted = messages.accept(
            message,
            starts_itself=starts_itself,
            traceparent=traces.current_traceparent() or traceparent,
        )
        record_accepted(accepted)
    return accepted
