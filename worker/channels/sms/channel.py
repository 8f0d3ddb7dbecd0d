"""Delivers with a POST to Telnyx: the stored request, under the delivery's key.

2xx with an id                    Sent
a code of `codes.py`              by that table, whatever the status
401 402 403 404, a redirect       NotDelivered: the channel rests, as for the table's PROFILE
429                               NotDelivered: the channel rests
408 409 5xx, 2xx without an id    Unclear: the key makes a repetition harmless
any other 4xx                     Rejected
no answer                         Unclear after a byte, else NotDelivered
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from worker.channels.channel import DEADLINE_S
from worker.channels.sms.codes import SPEND_LIMIT, TROUBLES, Trouble, reason_of
from worker.channels.sms.request import SMS_PATH, WHATSAPP_PATH, pieces_of
from worker.domain.deliveries import (
    DeliveryOutcome,
    NotDelivered,
    OutgoingReply,
    Pause,
    PauseScope,
    Piece,
    Rejected,
    Sent,
    Unclear,
)
from worker.domain.people.disclosure import before
from worker.domain.sms.answers import SendAnswer
from worker.domain.turns.calls import Fault
from worker.domain.ways_out import TelnyxDelivery
from worker.net.answer import IncompleteAnswerError
from worker.net.window import CallWindow

Post: TypeAlias = Callable[[str, bytes, str | None, CallWindow], SendAnswer]
"""Takes path, body, idempotency key and the time it has."""

_NOT_FOUND: Final = 404
_PROFILE_S: Final = 300.0
"""An operator has to act. One attempt after each pause finds out whether they have."""
_SETUP_S: Final = 600.0
_SENDER_S: Final = 300.0
_QUEUE_S: Final = 60.0
"""Telnyx holds messages in its queues for hours; a full one does not empty in a second."""
_RATE_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class TelnyxChannel:
    """One for all threads and numbers."""

    post: Post
    options: TelnyxDelivery
    public_url: str
    """Of the gateway, without a slash at its end."""
    deadline_s: float = DEADLINE_S

    @property
    def takes_key(self) -> bool:
        """Whether Telnyx drops a repetition."""
        return self.options.takes_key

    def compose(self, reply: OutgoingReply) -> tuple[Piece, ...]:
        """Return the messages of a reply, in order; at least one."""
        return pieces_of(
            before(reply.text, reply.disclosure),
            to=reply.to,
            key=reply.idempotency_key,
            public_url=self.public_url,
            options=self.options,
        )

    def deliver(self, reply: OutgoingReply) -> DeliveryOutcome:
        """POST the stored request once."""
        # Telnyx would refuse it as a fault of the number, for which others of ours would wait.
        if not reply.to.recipient and (self.options.whatsapp or self.options.profile_id is None):
            return Rejected(reason="the message names no recipient to send from")
        path = WHATSAPP_PATH if self.options.whatsapp else SMS_PATH
        return post_stored(self.post, path, reply, self.deadline_s, takes_key=self.takes_key)


def post_stored(
    post: Post, path: str, reply: OutgoingReply, deadline_s: float, *, takes_key: bool
) -> DeliveryOutcome:
    """POST the stored request of a reply once; return what it comes to."""
    if reply.request is None:
        raise ValueError("a message to Telnyx needs its stored request")
    key = str(reply.idempotency_key) if takes_key else None
    window = CallWindow.starting_now(deadline_s)
    try:
        answer = post(path, reply.request.encode(), key, window)
    except IncompleteAnswerError as error:
        return (Unclear if window.wrote else NotDelivered)(reason=str(error))
    return judge(answer)


def judge(answer: SendAnswer) -> DeliveryOutcome:
    """Return what an answer comes to."""
    if answer.suppressed:
        return Rejected(reason="suppressed", gone=True)
    if answer.message_id is not None:
        return Sent(provider_id=answer.message_id, parts=answer.parts)
    trouble = None if answer.code is None else TROUBLES.get(answer.code)
    if trouble is not None and answer.code is not None:
        return _by_code(trouble, answer.code, answer.pause_s)
    reason = f"status {answer.status}"
    if answer.fault is Fault.ACCOUNT or answer.status == _NOT_FOUND:
        return _wait(reason, "channel", answer.pause_s or _PROFILE_S)
    if answer.fault is Fault.RATE:
        return _wait(reason, "channel", answer.pause_s or _RATE_S)
    if answer.fault is Fault.REQUEST:
        return Rejected(reason=reason)
    return Unclear(reason=reason, retry_after_s=answer.pause_s)


def _by_code(trouble: Trouble, code: str, asked_s: float | None) -> DeliveryOutcome:
    reason = reason_of(code)
    match trouble:
        case Trouble.PERSON | Trouble.TEXT:
            return Rejected(reason=reason)
        case Trouble.SETUP:
            return Rejected(reason=reason, pause=Pause(scope="sender", seconds=_SETUP_S))
        case Trouble.PROFILE if code == SPEND_LIMIT:
            return NotDelivered(reason=reason, pause=Pause(scope="channel", seconds=None))
        case Trouble.PROFILE:
            return _wait(reason, "channel", max(asked_s or 0.0, _PROFILE_S))
        case Trouble.RATE:
            return _wait(reason, "channel", asked_s or _RATE_S)
        case Trouble.SLOW:
            return _wait(reason, "sender", max(asked_s or 0.0, _QUEUE_S))
        case Trouble.SENDER:
            return _wait(reason, "sender", max(asked_s or 0.0, _SENDER_S))


def _wait(reason: str, scope: PauseScope, seconds: float) -> NotDelivered:
    return NotDelivered(reason=reason, pause=Pause(scope=scope, seconds=seconds))
