"""Signatures as Standard Webhooks has them: the one place that holds keys, and their library."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Self

from standardwebhooks import Webhook

MIN_KEY_BYTES = 24
"""Standard Webhooks, "Signature scheme": a key has 24 to 64 bytes."""


class Signer:
    """Signs with one key. Safe to share."""

    def __init__(self, key: bytes) -> None:
        self._webhook = Webhook(key)

    @classmethod
    def of(cls, secret: str) -> Self:
        """Read `whsec_` and base64, or base64 alone. Raises ValueError, which says the mend.

        The library would read any text as base64, passing over what is none.
        """
        mend = f"give whsec_ and the base64 of at least {MIN_KEY_BYTES} random bytes"
        encoded = secret.strip().removeprefix("whsec_").rstrip("=")
        try:
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"the key is not base64: {mend}") from None
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"the key has {len(key)} bytes: {mend}")
        return cls(key)

    def headers(self, message_id: str, body: str) -> dict[str, str]:
        """Sign now: a receiver refuses what is older than some minutes, so each try anew."""
        now = datetime.now(UTC)  # in UTC: the library drops the offset
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhook.sign(message_id, now, body),
        }
