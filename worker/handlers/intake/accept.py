"""Accepting one envelope: check, route, commit. From then on its message has one outcome."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from worker.domain.messages import Accepted, Attachment, NewMessage, is_image
from worker.domain.reasons import DeadLetterReason
from worker.domain.routing import ChannelPolicy, Routing, UnknownAgentError, UnknownRouteError
from worker.domain.turns.claim import Started
from worker.envelope import Envelope, EnvelopeError, parse_envelope
from worker.envelope.wire import INBOUND
from worker.handlers.intake.channel_address import channel_address
from worker.handlers.telemetry.intake import accept_span, record_accepted
from worker.observability import traces
from worker.store.intake.messages import MessageStore
from worker.store.turns.fast_path import StartStore

UNSUPPORTED_ATTACHMENT = "unsupported_attachment"
"""Outcome of a message whose attachment the model cannot look at, where the channel says so."""
NEVER_ANSWERED = frozenset({"opt_out", "opt_in", "help", "auto_reply", "bulk", "bounce"})
"""Signals of messages that no model answers: the carrier has, or two machines would for ever."""


@dataclass(frozen=True, kw_only=True)
class AcceptEnvelope:
    """From a document to a committed message."""

    messages: MessageStore
    routing: Routing

    def commit(
        self, message: NewMessage, *, starts_itself: bool, traceparent: str | None = None
    ) -> Accepted:
        """Commit a message; a repetition changes nothing. Raises `DatabaseAwayError`.

        `starts_itself`: the caller starts its turn, where it is first in line. `traceparent`: the
        producer's.
        """
        with accept_span(queue=INBOUND, parent=traceparent):
            traced = in_current_trace(message, otherwise=traceparent)
            accepted = self.messages.accept(traced, starts_itself=starts_itself)
            record_accepted(accepted)
        return accepted

    def start(
        self, message: NewMessage, starts: StartStore, *, traceparent: str | None
    ) -> Started | Accepted:
        """Commit a message, and in the usual case the start of its turn with it.

        Where it gives `Accepted`, the caller starts the turn if the message is first in line.
        """
        with accept_span(queue=INBOUND, parent=traceparent):
            traced = in_current_trace(message, otherwise=traceparent)
            started = starts.start(traced)
            accepted = started.accepted if started else None
            accepted = accepted or self.messages.accept(traced, starts_itself=True)
            record_accepted(accepted)
        return started or accepted


def in_current_trace(message: NewMessage, *, otherwise: str | None = None) -> NewMessage:
    """Return the message with the current span's traceparent; without a span, with `otherwise`."""
    traceparent = traces.current_traceparent() or otherwise
    return message if traceparent is None else replace(message, traceparent=traceparent)


def parse_and_route(document: object, routing: Routing) -> NewMessage:
    """Check an envelope and say who answers it, from the configuration alone.

    Raises `EnvelopeError`.
    """
    envelope = parse_envelope(document)
    policy = routing.channel(envelope.channel)
    try:
        agent = routing.agent_for(
            channel=envelope.channel, recipient=envelope.recipient, named=envelope.agent
        )
    except UnknownAgentError:
        fix = "the configuration has none of that name"
        raise EnvelopeError(DeadLetterReason.UNKNOWN_AGENT, "agent", fix) from None
    try:
        routing.check_route(envelope.reply_to)
    except UnknownRouteError:
        fix = "the agents file has no section [routes.NAME] of that name"
        raise EnvelopeError(DeadLetterReason.UNKNOWN_ROUTE, "reply_to", fix) from None
    reorder_s = policy.reorder_s if envelope.sent_at is not None else 0.0
    return NewMessage(
        who=channel_address(envelope, policy.kind),
        message_id=envelope.message_id,
        agent=agent.name,
        text=envelope.text,
        attachments=tuple(
            Attachment(content_type=one.content_type, url=one.url, data=one.data, name=one.name)
            for one in envelope.attachments
        ),
        reply_to=envelope.reply_to,
        envelope=envelope.as_json(),
        sent_at=envelope.sent_at,
        hold_s=max(policy.debounce_s, reorder_s),
        max_wait_s=policy.max_wait_s,
        expires_at=_expiry(envelope, policy),
        max_pending=policy.max_pending,
        skip=_why_skipped(envelope, policy),
    )


def _why_skipped(envelope: Envelope, policy: ChannelPolicy) -> str | None:
    """Give the outcome of a message that is never answered; None where it is."""
    signal = next((one for one in envelope.signals if one in NEVER_ANSWERED), None)
    if signal is None and policy.other_attachments == "skip":
        only_images = all(is_image(one.content_type) for one in envelope.attachments)
        return None if only_images else UNSUPPORTED_ATTACHMENT
    return signal


def _expiry(envelope: Envelope, policy: ChannelPolicy) -> datetime | None:
    if envelope.expires_at is not None:
        return envelope.expires_at
    if policy.max_age_s is None or envelope.sent_at is None:
        return None
    return envelope.sent_at + timedelta(seconds=policy.max_age_s)
