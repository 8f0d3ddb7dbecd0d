"""Delivers with a POST signed as Standard Webhooks specifies, one for each attempt.

    TAKEN                                   Sent
    GONE                                    Rejected: the endpoint is gone
    LATER, BUSY, REFUSED                    NotDelivered
    OPEN, no answer after a byte            Unclear
    no answer before a byte                 NotDelivered
    429, 502, 504, or slow to fail          besides: the whole channel rests

The first word is `EndpointStatus`'s. The status is the answer, the body does not count.
`worker.domain.deliveries` decides when to try again. `webhook-id` is the idempotency key, the same
on each attempt; the signature is made anew, because receivers refuse old ones.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Final

from worker.channels.channel import DEADLINE_S, reply_document
from worker.domain.deliveries import (
    DeliveryOutcome,
    NotDelivered,
    OutgoingReply,
    Rejected,
    Sent,
    Unclear,
)
from worker.net.answer import Answer, IncompleteAnswerError, parse_retry_after
from worker.net.clock import boottime
from worker.net.post_once import Endpoint, EndpointStatus, endpoint_status
from worker.net.signing import Signer
from worker.net.window import CallWindow

MAX_BODY_BYTES: Final = 16 * 1024
"""This much of an answer is read: some servers abort their work when the client hangs up."""
_CONNECT_SHARE: Final = 2 / 3
"""Part of the deadline: an endpoint that is slow to reach still has the rest to answer in."""
_SLOW_SHARE: Final = 1 / 2
"""Part of the deadline: an endpoint that takes longer to fail counts as one that hangs."""
_THROTTLES: Final = frozenset({429, 502, 504})  # as Standard Webhooks reads them


@dataclass(frozen=True)
class WebhookChannel:
    """One endpoint of the operator. Safe to share."""

    endpoint: Endpoint
    signer: Signer
    deadline_s: float = DEADLINE_S
    takes_key: ClassVar[bool] = True
    """The receiver drops a `webhook-id` that it has seen."""

    def deliver(self, reply: OutgoingReply) -> DeliveryOutcome:
        """POST it once."""
        # In ASCII: the library signs text, and the bytes that are sent must be the same.
        body = json.dumps(reply_document(reply), separators=(",", ":"))
        begun = boottime()
        trace = {"traceparent": reply.traceparent} if reply.traceparent else {}
        headers = self.signer.headers(str(reply.idempotency_key), body) | trace
        connect_s = self.deadline_s * _CONNECT_SHARE
        window = CallWindow.since(begun, timeout_s=self.deadline_s, send_grace_s=connect_s)
        slow_from = begun + self.deadline_s * _SLOW_SHARE
        try:
            answer = self.endpoint.post(body.encode("ascii"), headers, window)
        except IncompleteAnswerError as error:
            kind = Unclear if window.wrote else NotDelivered
            return kind(reason=str(error), throttled=boottime() > slow_from)
        return _judge(answer, slow=boottime() > slow_from)


def _judge(answer: Answer, *, slow: bool) -> DeliveryOutcome:
    status, reason = endpoint_status(answer.status), f"status {answer.status}"
    if status is EndpointStatus.TAKEN:
        return Sent()
    if status is EndpointStatus.GONE:
        return Rejected(reason=reason)
    return (Unclear if status is EndpointStatus.OPEN else NotDelivered)(
        reason=reason,
        # Zero asks for nothing: the schedule has a pause of its own.
        retry_after_s=parse_retry_after(answer.headers, datetime.now(UTC)) or None,
        throttled=slow or answer.status in _THROTTLES,
    )
