"""From an envelope's address to a channel user, by the rules of the channel's kind."""

import re
from typing import Final

from worker.domain.messages import ChannelAddress
from worker.domain.reasons import DeadLetterReason
from worker.domain.routing import ChannelKind
from worker.envelope import Envelope, EnvelopeError

_E164: Final = re.compile(r"\+[1-9][0-9]{1,14}")
"""ITU-T E.164: a plus and at most fifteen digits, the first not zero."""


def channel_address(envelope: Envelope, kind: ChannelKind) -> ChannelAddress:
    """Return the channel user. Raises `EnvelopeError` if the address does not fit the kind."""
    address = envelope.user
    if kind == "telephone" and _E164.fullmatch(address) is None:
        raise _refused("on a telephone channel give E.164, such as +13125550001")
    if kind == "email":
        local, at, domain = address.rpartition("@")
        if not (local and at and domain):
            raise _refused("on an e-mail channel give an address with one @")
        # Domains are case-insensitive (RFC 5321 2.4); the part before the @ need not be.
        address = f"{local}@{domain.lower()}"
    return ChannelAddress(
        channel=envelope.channel,
        recipient=envelope.recipient,
        address=address,
        thread=envelope.thread,
    )


def _refused(fix: str) -> EnvelopeError:
    return EnvelopeError(DeadLetterReason.ENVELOPE_INVALID, "user", fix)
