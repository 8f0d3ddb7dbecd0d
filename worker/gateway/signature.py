"""Telnyx's signatures: Ed25519 over `timestamp|body`, as its page on webhooks says."""

import asyncio
import base64
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from worker.domain.errors import WorkerError, named
from worker.observability.logs import log

TOLERANCE_S: Final = 300
"""Both ways, by the wall clock, as the signature's timestamp is."""
FORGED: Final = "not signed by Telnyx, or changed on the way"
"""The fault that another key may cure."""
_FETCH_EVERY_S: Final = 60.0
"""Anybody can send what no key fits."""
_FETCH_S: Final = 1.0
"""A webhook's share of waiting for the key: Telnyx waits 2 s for the answer, and sends again."""
_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)


class TelnyxKeys:
    """One public key, or two while they are rotated."""

    def __init__(self, keys: Sequence[str], fetch: Callable[[], str] | None = None) -> None:
        """Take keys in base64, and what fetches one if they came so. Raises ValueError, unquoted.

        `fetch` may raise ValueError and `WorkerError`.
        """
        self._keys = [_read(key) for key in keys]
        self._fetch = fetch
        self._fetched_at = 0.0
        self._fetching: asyncio.Future[bool] | None = None

    async def replaced(self) -> bool:
        """Fetch the key again, once a minute at most; return whether it is another one now."""
        if self._fetch is None:
            return False
        now = time.monotonic()
        if self._fetching is None or now - self._fetched_at >= _FETCH_EVERY_S:
            self._fetched_at = now
            self._fetching = asyncio.get_running_loop().run_in_executor(
                None, self._replace, self._fetch
            )
        fetching = self._fetching
        await asyncio.wait([fetching], timeout=_FETCH_S)
        return fetching.done() and fetching.result()

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
        return FORGED

    def _replace(self, fetch: Callable[[], str]) -> bool:
        try:
            key = _read(fetch())
        except (ValueError, WorkerError) as error:
            log.warning("gateway.key_fetch_failed", error=named(error))
            return False
        # Without the one before: what it has signed is sent again, signed anew.
        before, self._keys = self._keys, [key]
        if before == self._keys:
            return False
        log.info("gateway.key_replaced")
        return True


def _read(key: str) -> VerifyKey:
    try:
        return VerifyKey(base64.b64decode(key, validate=True))
    except (ValueError, TypeError, CryptoError):
        raise ValueError("give base64 of 32 bytes, as Telnyx's portal shows it") from None


def _is_signed(key: VerifyKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(message, signature)
    except (CryptoError, ValueError):
        return False
    return True
