"""Receiving one envelope: check, route, accept; then, where nothing stands before it, answer it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.domain.agents import ChannelPolicy, Routing, UnknownAgentError
from worker.domain.reasons import DeadLetterReason
from worker.envelope import Envelope, EnvelopeError, parse_envelope
from worker.handlers.answer import MAX_SLEEP_S, AnswerUser
from worker.handlers.slots import TurnSlots
from worker.observability import log
from worker.store.dead_letters import DeadLetterStore
from worker.store.messages import Accepted, MessageStore, NewMessage

NEVER_ANSWERED = frozenset({"opt_out", "opt_in", "help", "auto_reply", "bulk", "bounce"})
"""Signals of messages that no model answers: the carrier has, or two machines would for ever."""


@dataclass(frozen=True, kw_only=True)
class ReceiveEnvelope:
    """The use case behind the task `messages.receive`."""

    messages: MessageStore
    dead_letters: DeadLetterStore
    answer: AnswerUser
    routing: Routing
    slots: TurnSlots

    def __call__(
        self, document: object, *, raw: Callable[[], bytes], queue: str
    ) -> Accepted | None:
        """Accept an envelope and, on the fast path, answer it; None = it became a dead letter.

        `raw` gives the bytes as they arrived. Raises `RetryableError` when Postgres is away:
        the producer's message must then not be acknowledged.
        """
        try:
            message = self._routed(parse_envelope(document))
        except EnvelopeError as error:
            self.dead_letters.keep(reason=error.reason, raw=raw(), detail=str(error), queue=queue)
            log.warning("envelope.refused", reason=error.reason, queue=queue)
            return None
        starts_itself = message.hold_s <= MAX_SLEEP_S and self.slots.take()
        try:
            accepted = self.messages.accept(message, starts_itself=starts_itself)
            _tell(accepted)
            if starts_itself and accepted.first_in_line:
                self.answer.with_slot(accepted.user_id, first_in_s=accepted.due_in_s)
        finally:
            if starts_itself:
                self.slots.give_back()
        return accepted

    def accept(self, document: object) -> Accepted:
        """Check, route and commit an envelope, and leave its answer to the sweepers.

        Raises `EnvelopeError`.
        """
        accepted = self.messages.accept(self._routed(parse_envelope(document)), starts_itself=False)
        _tell(accepted)
        return accepted

    def _routed(self, envelope: Envelope) -> NewMessage:
        policy = self.routing.channel(envelope.channel)
        try:
            agent = self.routing.agent_for(
                channel=envelope.channel, recipient=envelope.recipient, named=envelope.agent
            )
        except UnknownAgentError:
            detail = "agent: the configuration has none of that name"
            raise EnvelopeError(DeadLetterReason.UNKNOWN_AGENT, detail) from None
        reorder_s = policy.reorder_s if envelope.sent_at is not None else 0.0
        return NewMessage(
            who=envelope.who(policy.kind),
            message_id=envelope.message_id,
            agent=agent.name,
            envelope=envelope.stored(),
            sent_at=envelope.sent_at,
            hold_s=max(policy.debounce_s, reorder_s),
            max_wait_s=policy.max_wait_s,
            expires_at=_expiry(envelope, policy),
            max_pending=policy.max_pending,
            skip=next((one for one in envelope.signals if one in NEVER_ANSWERED), None),
        )


def _expiry(envelope: Envelope, policy: ChannelPolicy) -> datetime | None:
    if envelope.expires_at is not None:
        return envelope.expires_at
    if policy.max_age_s is None or envelope.sent_at is None:
        return None
    return envelope.sent_at + timedelta(seconds=policy.max_age_s)


def _tell(accepted: Accepted) -> None:
    if accepted.fresh:
        log.info("message.accepted", message=accepted.id, user=accepted.user_id)
    elif accepted.conflicting:
        log.warning("message.conflict", message=accepted.id, user=accepted.user_id)
    else:
        log.info("message.repeated", message=accepted.id, user=accepted.user_id)
