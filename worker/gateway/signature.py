"""Telnyx's signatures: Ed25519 over `timestamp|body`, as its page on webhooks says."""

import base64
import re
import time
from collections.abc import Mapping, Sequence
from typing import Final

from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

TOLERANCE_S: Final = 300
"""Both ways, by the wall clock, as the signature's timestamp is."""
_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)


class TelnyxKeys:
    """One public key, or two while they are rotated."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Take keys in base64. Raises ValueError, unquoted."""
        try:
            self._keys = [VerifyKey(base64.b64decode(key, validate=True)) for key in keys]
        except (ValueError, TypeError, CryptoError):
            raise ValueError("give base64 of 32 bytes, as Telnyx's portal shows it") from None

    def fault(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """Return why this is not Telnyx's; None = it is."""
        signed_at = headers.get("telnyx-timestamp", "")
        try:
            signature = base64.b64decode(headers.get("telnyx-signature-ed25519", ""), validate=True)
        except ValueError:
            signature = b""
        if not (_SECONDS.fullmatch(signed_at) and signature):
            return "no signature of Telnyx"
        if abs(time.time() - int(signed_at)) > TOLERANCE_S:
            return f"signed more than {TOLERANCE_S} s ago, or the clocks differ"
        message = signed_at.encode() + b"|" + body
        if any(_is_signed(key, message, signature) for key in self._keys):
            return None
        return "not signed by Telnyx, or changed on the way"


def _is_signed(key: VerifyKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(message, signature)
    except (CryptoError, ValueError):
        return False
    return True
