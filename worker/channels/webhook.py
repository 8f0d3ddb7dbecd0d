"""A way out: a POST signed as Standard Webhooks has it, once for each attempt.

    2xx                                     Sent
    410                                     Rejected: the endpoint is gone
    any other 4xx, 301 307 308              NotDelivered
    5xx, other 3xx, silence after a byte    Unclear
    silence before a byte                   NotDelivered
    429, 502, 504, or slow to fail          besides: the whole channel rests

The status is the answer: what the body says does not count. When it is tried again is not decided
here. `webhook-id` is the idempotency key, the same on each attempt; the signature is made anew,
because receivers refuse old ones.
"""

import json
import ssl
from datetime import UTC, datetime
from typing import Final

import httpx

from worker.channels.channel import DEADLINE_S
from worker.channels.document import reply_document
from worker.domain.deliveries import (
    DeliveryOutcome,
    NotDelivered,
    OutgoingReply,
    Rejected,
    Sent,
    Unclear,
)
from worker.net.clock import boottime
from worker.net.deadline_socket import Lookup, look_up
from worker.net.post_once import Answer, Endpoint, Silence, seconds_of
from worker.net.public_addresses import is_public
from worker.net.signing import Signer

MAX_RETRY_AFTER_S: Final = 3600.0
"""A longer pause is not granted: the schedule has its own."""
MAX_BODY_BYTES: Final = 16 * 1024
"""So much of an answer is read, out of politeness: some servers stop their work when we hang up."""
_CONNECT_SHARE: Final = 2 / 3
"""Of the deadline: who took so long to be reached gets the rest for the answer."""
_SLOW_SHARE: Final = 1 / 2
"""Of the deadline: a failure that took longer is one of an endpoint that hangs."""
_GONE = 410
_MOVED = frozenset({301, 307, 308})  # 302 and 303 may answer a POST that was carried out
_THROTTLES = frozenset({429, 502, 504})  # as Standard Webhooks reads them


class WebhookChannel:
    """One endpoint of the operator's. Safe to share."""

    def __init__(
        self,
        url: httpx.URL,
        signer: Signer,
        tls: ssl.SSLContext | None,
        *,
        allow_private: bool = False,
        deadline_s: float = DEADLINE_S,
        lookup: Lookup = look_up,
    ) -> None:
        self._endpoint = Endpoint(
            url,
            tls,
            max_body_bytes=MAX_BODY_BYTES,
            whole_answer=False,
            allowed=None if allow_private else is_public,
            lookup=lookup,
        )
        self._signer = signer
        self._deadline_s = deadline_s

    @property
    def takes_key(self) -> bool:
        """The receiver drops a `webhook-id` that it has seen."""
        return True

    def deliver(self, reply: OutgoingReply) -> DeliveryOutcome:
        """POST it once."""
        body = json.dumps(reply_document(reply), separators=(",", ":"))  # in ASCII
        begun = boottime()
        trace = {"traceparent": reply.traceparent} if reply.traceparent else {}
        outcome = self._endpoint.post(
            body.encode("ascii"),
            self._signer.headers(str(reply.idempotency_key), body) | trace,
            connect_by=begun + self._deadline_s * _CONNECT_SHARE,
            finish_by=begun + self._deadline_s,
        )
        return _judge(outcome, slow=boottime() - begun > self._deadline_s * _SLOW_SHARE)


def _judge(outcome: Answer | Silence, *, slow: bool) -> DeliveryOutcome:
    if isinstance(outcome, Silence):
        kind = Unclear if outcome.wrote else NotDelivered
        return kind(reason=outcome.reason, throttled=slow)
    status = outcome.status
    reason = f"status {status}"
    if 200 <= status < 300:  # noqa: PLR2004 every 2xx
        return Sent()
    if status == _GONE:
        return Rejected(reason=reason)
    asked_s = seconds_of(outcome.retry_after, now=datetime.now(UTC))
    surely_not = status in _MOVED or 400 <= status < 500  # noqa: PLR2004 every other 4xx
    return (NotDelivered if surely_not else Unclear)(
        reason=reason,
        retry_after_s=min(asked_s, MAX_RETRY_AFTER_S) or None,
        throttled=slow or status in _THROTTLES,
    )
