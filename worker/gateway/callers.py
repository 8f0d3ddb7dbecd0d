"""Producers that may call: by bearer token, or by a signature as Standard Webhooks has it."""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.gateway.body import RefusedError
from worker.net.signing import Signer


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
