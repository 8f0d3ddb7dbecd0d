"""Drains the inbox: messages of SQL producers, and those whose `not_before` has come."""

from collections.abc import Callable
from dataclasses import dataclass

from message_worker_client.envelope import EnvelopeError, read_envelope
from worker.domain.errors import RetryableError
from worker.domain.messages import Held
from worker.domain.routing import Routing
from worker.handlers.intake.route import names_in, parse_and_route
from worker.handlers.telemetry.intake import (
    accept_span,
    record_accepted,
    record_held,
    record_refused,
)
from worker.observability import traces
from worker.store.intake.inbox import QUEUE, InboxStore, Judged, Refused
from worker.store.sql import Row


@dataclass(frozen=True, kw_only=True)
class DrainInbox:
    """Accepts envelopes from the inbox; used by one thread."""

    inbox: InboxStore
    routing: Callable[[], Routing]
    rouse: Callable[[], None]
    """Makes the sweeper look at once."""

    def __call__(self) -> bool:
        """Accept a batch; return whether there may be more. Raises `DatabaseAwayError`."""
        try:
            taken = self.inbox.drain(self._judge)
        except RetryableError:
            raise
        except Exception:  # noqa: BLE001 - one row is the cause, whatever it is
            taken = self.inbox.drain(self._judge, apart=True)
        if taken is None:
            return False
        for one in taken:
            if isinstance(one, Refused):
                record_refused(one.reason, detail=one.detail, queue=QUEUE)
            elif isinstance(one, Held):
                record_held(one)
            else:
                record_accepted(one)
        self.rouse()
        return True

    def _judge(self, row: Row) -> Judged:
        routing = self.routing()
        try:
            message = parse_and_route(
                read_envelope(row.content),
                routing,
                not_before=row.not_before,
                expires_at=row.expires_at,
                task_id=row.task_id and str(row.task_id),
            )
        except EnvelopeError as error:
            names = names_in(row.content, routing)
            return Refused(
                reason=error.reason, detail=str(error), names=names, route=routing.refusals
            )
        # A span for each message, though a transaction commits a batch: each begins a trace.
        with accept_span(queue=QUEUE, parent=None):
            return message, traces.current_traceparent()
