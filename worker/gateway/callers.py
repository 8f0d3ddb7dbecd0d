"""Producers that may call: by bearer token, or by a signature as Standard Webhooks has it.

How often is limited for each source, so that one in a loop does not fill the inbox.
"""

import hmac
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from worker.gateway.endpoint import RefusedError
from worker.net.signing import Signer

_BURST_S: Final = 10.0
_MAX_SOURCES: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class Callers:
    """Who may send messages and read their outcomes."""

    tokens: Sequence[str]
    signer: Signer | None

    def has_token(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request has a good token. Raises `RefusedError` if it has a bad one."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if not scheme:
            return False
        given = token.strip().encode()
        # Against each, so that the time says nothing.
        matches = [hmac.compare_digest(given, one.encode()) for one in self.tokens]
        if scheme.lower() == "bearer" and any(matches):
            return True
        raise RefusedError(401, "authorization", "give Bearer and the token of GATEWAY_TOKEN")

    def check_signature(self, headers: Mapping[str, str], body: bytes) -> None:
        """Check a request without a token. Raises `RefusedError`."""
        if self.signer is None or not self.signer.has_signed(headers, body):
            fix = "give a bearer token, or sign with GATEWAY_SECRET as Standard Webhooks says"
            raise RefusedError(401, "authorization", fix)

    def admit(self, headers: Mapping[str, str], body: bytes, name: str) -> None:
        """Check a request whose path a signature does not cover. Raises `RefusedError`.

        `name`: the `webhook-id` that a signed request must have, so that it serves for this alone.
        """
        if self.has_token(headers):
            return
        self.check_signature(headers, body)
        if headers.get("webhook-id") != name:
            raise RefusedError(401, "webhook-id", f"sign with {name} as webhook-id")


class SourceRate:
    """A token bucket for each source, in this process. Used on the event loop alone."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._full_at: dict[str, float] = {}
        """When the source's bucket is full again, by the monotonic clock."""

    def take(self, source: str, messages: int = 1) -> None:
        """Count messages. Raises `RefusedError` if those before them were too many."""
        now = time.monotonic()
        full_at = max(self._full_at.pop(source, now), now)
        wait_s = full_at - now - _BURST_S
        if wait_s <= 0:
            full_at += messages / self._per_second
        # The last place: those at the front were idle for longest.
        self._full_at[source] = full_at
        if len(self._full_at) > _MAX_SOURCES:
            del self._full_at[next(iter(self._full_at))]
        if wait_s > 0:
            fix = f"at most {self._per_second:g} messages a second: again in {math.ceil(wait_s)} s"
            raise RefusedError(429, "rate", fix)
