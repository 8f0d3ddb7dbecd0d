"""Ids in mails that only we can make: each carries the number of a delivery and its HMAC.

Without it, a stranger who guesses an id would write into somebody else's thread, as FreeScout had
to learn (GHSA-6r38-6mcf-2ww3).
"""

import hmac
import re
from base64 import b32encode
from enum import StrEnum
from typing import Final

from worker.domain.ids import DeliveryId

_BYTES: Final = 15
"""Of the HMAC: 24 characters, and no guess succeeds."""
# Some servers change the case of addresses: base32 survives it.
_MARK: Final = re.compile(r"([1-9][0-9]{0,18})\.([a-z2-7]{24})", re.IGNORECASE)


class Purpose(StrEnum):
    """What a mark is for. A mark for one is none for another."""

    MESSAGE_ID = "message-id"
    BOUNCE = "bounce"
    """In the envelope sender: a bounce comes back to it."""


def mark(delivery: DeliveryId, purpose: Purpose, key: bytes) -> str:
    """Return the mark of a delivery."""
    told = hmac.digest(key, f"{purpose}\0{delivery}".encode(), "sha256")[:_BYTES]
    return f"{delivery}.{b32encode(told).decode().lower()}"


def _delivery(text: str, purpose: Purpose, key: bytes) -> DeliveryId | None:
    found = _MARK.fullmatch(text)
    if found is None:
        return None
    delivery = DeliveryId(int(found[1]))
    return delivery if hmac.compare_digest(mark(delivery, purpose, key), text.lower()) else None


def message_id(delivery: DeliveryId, domain: str, key: bytes) -> str:
    """Return the Message-ID of a delivery: the same on each attempt."""
    return f"<{mark(delivery, Purpose.MESSAGE_ID, key)}@{domain}>"


def delivery_of_id(message_id: str, key: bytes) -> DeliveryId | None:
    """Return whose Message-ID this is; None = we have not made it."""
    local = message_id.strip().removeprefix("<").partition("@")[0]
    return _delivery(local, Purpose.MESSAGE_ID, key)


def bounce_address(delivery: DeliveryId, domain: str, key: bytes) -> str:
    """Return the envelope sender of a delivery."""
    return f"bounce+{mark(delivery, Purpose.BOUNCE, key)}@{domain}"


def is_bounce_address(address: str) -> bool:
    """Whether an address has the form of the one above; it may be forged."""
    return address.lower().startswith("bounce+")


def delivery_of_bounce(address: str, key: bytes) -> DeliveryId | None:
    """Return the delivery in such an address; None = there is none of ours."""
    if not is_bounce_address(address):
        return None
    return _delivery(address.rpartition("@")[0].rpartition("+")[2], Purpose.BOUNCE, key)
