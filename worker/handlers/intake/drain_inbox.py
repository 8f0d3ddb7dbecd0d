"""Draining the inbox of producers that speak SQL."""

from collections.abc import Callable
from dataclasses import dataclass

from worker.domain.errors import PermanentError
from worker.domain.messages import NewMessage
from worker.domain.reasons import DeadLetterReason
from worker.envelope import EnvelopeError
from worker.handlers.intake.accept import AcceptEnvelope, in_current_trace, parse_and_route
from worker.handlers.telemetry.intake import accept_span, record_accepted, record_refused
from worker.store.intake.inbox import QUEUE, InboxStore, Refused

NOT_TAKEN = Refused(
    reason=DeadLetterReason.NOT_STORABLE, detail="envelope: Postgres refuses to store it"
)


@dataclass(frozen=True, kw_only=True)
class DrainInbox:
    """The use case; one instance serves the thread that drains."""

    inbox: InboxStore
    accept: AcceptEnvelope
    rouse: Callable[[], None]
    """Lets the sweeper look at once."""

    def __call__(self) -> bool:
        """Accept what lies there, a batch; gives whether there may be more.

        Raises `DatabaseAwayError`.
        """
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

    def _drain_one(self) -> tuple[()] | None:
        """Go on where one of a batch is refused: one by one, and the bad one is set aside."""
        try:
            accepted = self.inbox.drain(self._judge, limit=1)
        except PermanentError:
            self.inbox.set_oldest_aside(NOT_TAKEN)
            return ()
        for one in accepted or ():
            record_accepted(one)
        return None if accepted is None else ()

    def _judge(self, document: object) -> NewMessage | Refused:
        try:
            message = parse_and_route(document, self.accept.routing)
        except EnvelopeError as error:
            record_refused(error.reason, queue=QUEUE)
            return Refused(reason=DeadLetterReason(error.reason), detail=str(error))
        # Its trace begins here: what is committed is a batch of them.
        with accept_span(queue=QUEUE, parent=None):
            return in_current_trace(message)
