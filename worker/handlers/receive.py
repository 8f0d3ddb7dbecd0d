"""Receiving one envelope: check, route, accept; then, where nothing stands before it, answer it."""

from collections.abc import Callable
from dataclasses import dataclass

from worker.envelope import EnvelopeError
from worker.handlers.accept import AcceptEnvelope
from worker.handlers.answer import MAX_SLEEP_S, AnswerUser
from worker.handlers.slots import TurnSlots
from worker.store.dead_letters import DeadLetterStore
from worker.store.messages import Accepted


@dataclass(frozen=True, kw_only=True)
class ReceiveEnvelope:
    """The use case behind the task `messages.receive`."""

    accept: AcceptEnvelope
    dead_letters: DeadLetterStore
    answer: AnswerUser
    slots: TurnSlots

    def __call__(
        self, document: object, *, raw: Callable[[], bytes], queue: str
    ) -> Accepted | None:
        """Accept an envelope and, on the fast path, answer it; None = it became a dead letter.

        `raw` gives the bytes as they arrived. Raises `RetryableError` when Postgres is away:
        the producer's message must then not be acknowledged.
        """
        try:
            message = self.accept.routed(document)
        except EnvelopeError as error:
            self.dead_letters.keep(reason=error.reason, raw=raw(), detail=str(error), queue=queue)
            self.accept.tell_refused(error, queue=queue)
            return None
        starts_itself = message.hold_s <= MAX_SLEEP_S and self.slots.take()
        try:
            accepted = self.accept.commit(message, starts_itself=starts_itself)
            if starts_itself and accepted.first_in_line:
                self.answer.with_slot(accepted.user_id, first_in_s=accepted.due_in_s)
        finally:
            if starts_itself:
                self.slots.give_back()
        return accepted
