"""Drains the inbox, which SQL producers write to."""

from collections.abc import Callable
from dataclasses import dataclass

from message_worker_client.envelope import EnvelopeError
from worker.domain.errors import PermanentError
from worker.domain.messages import Accepted
from worker.domain.reasons import DeadLetterReason
from worker.domain.routing import Routing
from worker.handlers.intake.accept import parse_and_route
from worker.handlers.telemetry.intake import accept_span, record_accepted, record_refused
from worker.observability import traces
from worker.store.intake.inbox import QUEUE, InboxStore, Judged, Refused

NOT_TAKEN = Refused(
    reason=DeadLetterReason.NOT_STORABLE, detail="envelope: Postgres refuses to store it"
)


@dataclass(frozen=True, kw_only=True)
class DrainInbox:
    """Accepts envelopes from the inbox; used by one thread."""

    inbox: InboxStore
    routing: Routing
    rouse: Callable[[], None]
    """Makes the sweeper look at once."""

    def __call__(self) -> bool:
        """Accept a batch; return whether there may be more. Raises `DatabaseAwayError`."""
        try:
            accepted = self.inbox.drain(self._judge)
        except PermanentError:
            accepted = self._drain_one()
        if accepted is None:
            return False
        for one in accepted:
            record_accepted(one)
        self.rouse()
        return True

    def _drain_one(self) -> tuple[Accepted, ...] | None:
        """Accept one envelope after Postgres refused a batch; set it aside if it is the cause."""
        try:
            return self.inbox.drain(self._judge, limit=1)
        except PermanentError:
            self.inbox.set_oldest_aside(NOT_TAKEN)
            return ()

    def _judge(self, document: object) -> Judged:
        try:
            message = parse_and_route(document, self.routing)
        except EnvelopeError as error:
            record_refused(error.reason, queue=QUEUE)
            return Refused(reason=DeadLetterReason(error.reason), detail=str(error))
        # A span for each message, though a transaction commits a batch: each begins a trace.
        with accept_span(queue=QUEUE, parent=None):
            return message, traces.current_traceparent()
