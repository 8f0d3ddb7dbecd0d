"""Explains messages that have an outcome, and their replies. Defines the values of explanations.

The other half is `worker.domain.reports.explain_waiting`.
"""

from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from enum import StrEnum, auto, unique
from typing import Final

from worker.domain.reports.message_history import DeadLetterSummary, DeliverySummary, MessageHistory
from worker.domain.screening.consents import OPTED_OUT
from worker.domain.states import (
    SWITCHED_OFF,
    DeadLetterKind,
    DeliveryState,
    MessageState,
    ReplySource,
)


@unique
class MessageStatus(StrEnum):
    """The state of a message for scripts. New ones may come; none changes its meaning."""

    ANSWERED = auto()
    DELIVERING = auto()
    HELD = auto()
    REJECTED = auto()
    WITHHELD = auto()
    SUPERSEDED = auto()
    NOT_DELIVERED = auto()
    OPTED_OUT = auto()
    HUMAN = auto()
    SKIPPED = auto()
    EXPIRED = auto()
    DEAD = auto()

    DEBOUNCE = auto()
    WORKER = auto()
    BEHIND = auto()
    TELNYX = auto()
    TOOLS = auto()
    GATE = auto()
    RATE = auto()
    RETRY = auto()
    LOOK_BACK = auto()
    CONVERSATION = auto()
    PAUSED = auto()
    DIVERGED = auto()
    ERASING = auto()
    NO_AGENT = auto()
    STRANDED = auto()


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a message waits, or how it ended; the next step; commands for an operator."""

    status: MessageStatus
    what: str
    _: KW_ONLY
    since: datetime | None = None
    until: datetime | None = None
    """When that ends or is checked again; in the past = it is overdue."""
    then: str = ""
    """The next step; empty = nothing more happens by itself."""
    commands: tuple[str, ...] = ()


_CONSENT: Final = "worker consent show {user}"
_SAY: Final = 'worker say {user} "TEXT"'
_SKIPPED: Final = {
    OPTED_OUT: "this person has opted out",
    "overflow": "too many messages of this channel user waited (max_pending)",
    "over_budget": "the budget of its agent was used up for that day (UTC), see worker usage",
    "unsupported_attachment": "an attachment is no image (other_attachments)",
}
_DEAD: Final = {
    "no_answer": "the model answered without a usable text, and its agent has no fallback_text",
    "refused": "Telnyx refused it as it stands, twice",
    "gave_up": "it was tried for too long, or too often without a clear answer",
}
_STATUS: Final = {
    DeliveryState.SENT: MessageStatus.ANSWERED,
    DeliveryState.HELD: MessageStatus.HELD,
    DeliveryState.REJECTED: MessageStatus.REJECTED,
    DeliveryState.WITHHELD: MessageStatus.WITHHELD,
    DeliveryState.SUPERSEDED: MessageStatus.SUPERSEDED,
    DeliveryState.OPTED_OUT: MessageStatus.OPTED_OUT,
}
"""Status of an answered message by its delivery; otherwise NOT_DELIVERED."""
_DELIVERED: Final = {
    DeliveryState.SENT: "the reply was sent",
    DeliveryState.REJECTED: "one of our staff has rejected the reply",
    DeliveryState.WITHHELD: "the reply was withheld, for a person had taken over",
    DeliveryState.SUPERSEDED: (
        "the reply was not sent, for newer messages waited: the next one covers them"
    ),
    DeliveryState.FAILED: "the channel refused the reply, or it was tried too often",
    DeliveryState.OPTED_OUT: "the person has opted out, so the reply was not sent",
    DeliveryState.UNKNOWN: "the channel may have the reply or not, and it is not sent again",
    DeliveryState.EXPIRED: "the reply could not be sent in time (delivery_max_age_s)",
}


def ended(history: MessageHistory) -> Explanation:
    """Explain a message whose state is not `pending` or `in_turn`."""
    message = history.message
    match message.state:
        case MessageState.DEAD:
            return _dead(history)
        case MessageState.HUMAN:
            status, since = MessageStatus.HUMAN, message.finished_at
            what = "a person had taken over: it was left to them, and the model did not answer"
        case MessageState.SKIPPED:
            seen = f"it was recognised as {message.outcome}"
            what = f"not answered: {_SKIPPED.get(message.outcome or '', seen)}"
            if history.reply is not None:
                what += "; a configured text was sent"
            since = message.finished_at
            if message.outcome != OPTED_OUT:
                return Explanation(MessageStatus.SKIPPED, what, since=since)
            show = _CONSENT.format(user=history.user.id)
            return Explanation(MessageStatus.OPTED_OUT, what, since=since, commands=(show,))
        case MessageState.EXPIRED:
            status, since = MessageStatus.EXPIRED, message.expires_at
            what = "too old when its turn would have opened (expires_at, or max_age_s)"
        case _:
            return _answered(history)
    say = _SAY.format(user=history.user.id)
    return Explanation(status, what, since=since, commands=(say,))


def _dead(history: MessageHistory) -> Explanation:
    letter = _open_letter(history, DeadLetterKind.MESSAGE)
    reason = history.message.outcome or ""
    last = history.calls[-1] if history.calls else None
    answer = f" (status {last.status})" if last is not None and last.status else ""
    what = f"dead letter, {reason}: {_DEAD.get(reason, 'see its reason')}{answer}"
    dealt = next((one for one in reversed(history.dead_letters) if one.resolution), None)
    return Explanation(
        status=MessageStatus.DEAD,
        what=what,
        since=letter.created_at if letter else history.message.finished_at,
        then=f"dead letter {dealt.id} was {dealt.resolution}" if dealt and not letter else "",
        commands=(f"worker dead-letters replay {letter.id}",) if letter else (),
    )


def _answered(history: MessageHistory) -> Explanation:
    delivery, source = history.delivery, history.reply.source if history.reply else None
    failure = history.turn and history.turn.failure
    how = {
        ReplySource.ADOPTED: "answered; the answer was found in Telnyx's conversation",
        ReplySource.EDITED: "answered; one of our staff has changed the answer",
        ReplySource.FALLBACK: f"the reply is the fallback text ({failure})",
    }.get(source or ReplySource.CALL, "answered")
    if delivery is None:
        return Explanation(MessageStatus.ANSWERED, how, since=history.message.finished_at)
    if delivery.state in {DeliveryState.PENDING, DeliveryState.SENDING}:
        return _delivering(history, delivery)
    if delivery.state is DeliveryState.HELD:
        return _held(delivery)
    what = _DELIVERED.get(delivery.state, str(delivery.state))
    if delivery.state is DeliveryState.EXPIRED and delivery.held_for and not delivery.reviewed_at:
        what = "nobody decided about the draft in time (draft_max_age_s)"
    if delivery.is_kept:
        what = "the reply is kept in Postgres, this channel has no delivery"
    elif delivery.state is DeliveryState.FAILED and delivery.receipt is not None:
        what = "the reply was sent, and has not arrived"
    status = _STATUS.get(delivery.state, MessageStatus.NOT_DELIVERED)
    commands: tuple[str, ...] = ()
    if letter := _open_letter(history, DeadLetterKind.DELIVERY):
        commands = (f"worker dead-letters replay {letter.id}",)
    # A mail that came back for good is in the ledger of opt-outs, too.
    elif status is MessageStatus.OPTED_OUT or (delivery.receipt_error or "").startswith("5."):
        commands = (_CONSENT.format(user=history.user.id),)
    elif status in {MessageStatus.WITHHELD, MessageStatus.REJECTED, MessageStatus.NOT_DELIVERED}:
        commands = (_SAY.format(user=history.user.id),)
    what = f"{how}; {what}{_provider_status(delivery)}{_receipt(delivery)}"
    return Explanation(status, what, since=delivery.finished_at, commands=commands)


def _delivering(history: MessageHistory, delivery: DeliverySummary) -> Explanation:
    """Explain a reply on its way."""
    what, until, then = "the reply is due to be sent", delivery.due_at, ""
    gate = next((g for g in history.gates if g.name == delivery.gate), None)
    person = history.reply is not None and history.reply.source is ReplySource.HUMAN
    if delivery.counts_from is not None and delivery.counts_from > history.now:
        what, until = "it waits for the hours of its channel", delivery.counts_from
        then = "sooner if the person writes again"
    elif delivery.ahead:
        what, until = f"{delivery.ahead} earlier replies to this channel user go first", None
    elif delivery.lease_until is not None and delivery.lease_until > history.now:
        what = f"attempt {delivery.attempts} is under way"
        until, then = delivery.lease_until, "an attempt that does not end counts as unclear"
    elif gate is not None and gate.reason == SWITCHED_OFF:
        what, until = f"gate {gate.name}: its endpoint failed for days and is switched off", None
        then = "nothing is sent until the row is taken out of gates: docs/how-to/receive-replies.md"
    elif gate is not None:
        what, until = f"gate {gate.name} is closed: {gate.reason}", gate.closed_until
    elif delivery.attempts:
        what = f"attempt {delivery.attempts} did not succeed{_provider_status(delivery)}"
        then = f"attempt {delivery.attempts + 1}"
    if history.user.paused_at is not None and not person and delivery.reviewed_at is None:
        then = "it is withheld, for a person has taken over meanwhile"
    what, since = f"answered, and being delivered: {what}", delivery.created_at
    return Explanation(MessageStatus.DELIVERING, what, since=since, until=until, then=then)


def _held(delivery: DeliverySummary) -> Explanation:
    """Explain a reply that waits for a person."""
    return Explanation(
        MessageStatus.HELD,
        f"answered; the reply is a draft ({delivery.held_for}) and waits for a person",
        since=delivery.created_at,
        until=delivery.due_at,
        then="it expires (draft_max_age_s), or newer messages take its place",
        commands=(f"worker replies show {delivery.reply_id}",),
    )


def _receipt(delivery: DeliverySummary) -> str:
    if delivery.receipt is None:
        return ""
    error = f", error {delivery.receipt_error}" if delivery.receipt_error else ""
    return f"; the provider reports: {delivery.receipt}{error}"


def _provider_status(delivery: DeliverySummary) -> str:
    return f" ({delivery.provider_status})" if delivery.provider_status else ""


def _open_letter(history: MessageHistory, kind: DeadLetterKind) -> DeadLetterSummary | None:
    return next(
        (one for one in history.dead_letters if one.kind is kind and not one.resolution), None
    )
