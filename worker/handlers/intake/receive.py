"""Receives one envelope: accepts it and, if nothing waits before it, answers it."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from message_worker_client.envelope import EnvelopeError
from message_worker_client.envelope.wire import INBOUND
from worker.domain.fairness import Share
from worker.domain.messages import UNKNOWN_SENDER, Accepted, NewMessage, Received, Sender
from worker.domain.reasons import DeadLetterReason
from worker.domain.routing import Routing
from worker.domain.states import WAITING
from worker.domain.turns.claim import Settled
from worker.handlers.intake.accept import commit
from worker.handlers.intake.route import names_in, parse_and_route
from worker.handlers.telemetry.intake import (
    accept_span,
    record_accepted,
    record_held,
    record_refused,
    work_logged,
)
from worker.handlers.turns.answer import MAX_SLEEP_S, AnswerUser
from worker.handlers.turns.slots import TurnSlots
from worker.net.clock import boottime
from worker.observability import traces
from worker.store.dead_letters import DeadLetterStore
from worker.store.intake.inbox import InboxStore
from worker.store.intake.messages import MessageStore
from worker.store.turns.fast_path import StartStore


@dataclass(frozen=True, kw_only=True)
class ReceiveEnvelope:
    """The use case behind the task `messages.receive`."""

    messages: MessageStore
    inbox: InboxStore
    routing: Callable[[], Routing]
    dead_letters: DeadLetterStore
    answer: AnswerUser
    slots: TurnSlots
    starts: StartStore
    turns: Executor
    """Answers what is not answered here. It has a thread for each slot, so nothing waits for one
    after its intent is committed."""

    def __call__(
        self,
        document: object,
        *,
        raw: Callable[[], bytes],
        queue: str,
        not_before: datetime | None = None,
        expires_at: datetime | None = None,
        sender: Sender = UNKNOWN_SENDER,
        answers: bool = True,
    ) -> Received:
        """Accept an envelope and, on the fast path, answer it.

        `raw` returns the bytes as they arrived; `not_before` and `expires_at` are the
        queue entry's. `answers`: here, before it returns; otherwise on another thread. Raises
        `RetryableError` if Postgres is away: the entry must then not be acknowledged.
        """
        traceparent, routing = sender.headers.get("traceparent"), self.routing()
        try:
            message = parse_and_route(
                document,
                routing,
                not_before=not_before,
                expires_at=expires_at,
                task_id=sender.task_id,
            )
        except EnvelopeError as error:
            return self._refused(error, raw(), routing, queue=queue, sender=sender)
        if message.not_before is not None:
            held = self.inbox.hold(message)
            record_held(held)
            return Received(accepted=None, result=f"held inbox={held.inbox_id}")
        return self._accepted(message, traceparent, answers=answers)

    def _refused(
        self, error: EnvelopeError, content: bytes, routing: Routing, *, queue: str, sender: Sender
    ) -> Received:
        """Keep the bytes as a dead letter."""
        reason, detail = DeadLetterReason(error.reason), str(error)
        self.dead_letters.keep(
            reason=reason,
            raw=content,
            detail=detail,
            queue=queue,
            sender=sender,
            names=names_in(content, routing),
        )
        traceparent = sender.headers.get("traceparent")
        record_refused(reason, detail=detail, queue=queue, traceparent=traceparent)
        return Received(accepted=None, result=f"refused {error.reason} {error.field}")

    def _accepted(self, message: NewMessage, traceparent: str | None, *, answers: bool) -> Received:
        """Accept a message, and answer it if there is a slot for it now."""
        at_once = message.hold_s <= MAX_SLEEP_S
        if self.slots.has_many_of(message.group):
            message = replace(message, surplus=True)
        share = Share(message.agent, message.surplus)
        if not (at_once and self.slots.take_at_once(share, message.group)):
            accepted = commit(self.messages, message, starts_itself=False, traceparent=traceparent)
            if at_once and accepted.first_in_line:
                self.slots.note_waiting(Share(message.agent, accepted.surplus))
            return Received(accepted=accepted, result=self._result(accepted, None))
        release = partial(self.slots.release, share, message.group)
        try:
            accepted, work = self._start(message, traceparent)
        except BaseException:
            release()
            raise
        if answers or work is None:
            try:
                settled = None if work is None else work()
            finally:
                release()
            return Received(accepted=accepted, result=self._result(accepted, settled))
        self.turns.submit(copy_context().run, _finish, accepted, work, release)
        return Received(accepted=accepted, result=f"accepted message={accepted.id}")

    def _start(
        self, message: NewMessage, traceparent: str | None
    ) -> tuple[Accepted, Callable[[], list[Settled]] | None]:
        """Accept a message; also return what answers it, if nothing waits before it."""
        # The clock is read before the commit: the grace to send counts from the intent, which the
        # same statement commits.
        t0 = boottime()
        with accept_span(queue=INBOUND, parent=traceparent):
            # Whatever follows from the message belongs to the span of its acceptance.
            trace = traces.current_traceparent() or traceparent
            # In the common case, the start of the turn is committed with the message.
            accepted, claimed = self.starts.start(message, traceparent=trace) or (
                self.messages.accept(message, starts_itself=True, traceparent=trace),
                None,
            )
            record_accepted(accepted)
        if claimed is not None:
            return accepted, partial(self.answer.go_on, claimed, t0)
        if accepted.first_in_line:
            due_in_s = accepted.due_in_s
            return accepted, partial(self.answer.with_slot, accepted.user_id, due_in_s=due_in_s)
        return accepted, None

    def _result(self, accepted: Accepted, settled: Sequence[Settled] | None) -> str:
        """Return the task's result. `settled`: its work on turns; None = it tried none."""
        if not accepted.fresh:
            return f"{accepted.result} message={accepted.id}"
        if accepted.skipped is not None:
            return f"skipped {accepted.skipped} message={accepted.id}"
        if settled is None:
            return f"{WAITING} message={accepted.id}"
        for one in settled:
            if one.result is not None and accepted.id in one.messages:
                return f"{one.result} message={accepted.id} turn={one.turn}"
        # The rare rest: it has expired, its turn was split or took several steps.
        return self.messages.result(accepted.id)


def _finish(
    accepted: Accepted, work: Callable[[], list[Settled]], release: Callable[[], None]
) -> None:
    """Answer a message on a thread of its own; it stays due in Postgres if that fails."""
    try:
        with work_logged(accepted.user_id):
            work()
    finally:
        release()
