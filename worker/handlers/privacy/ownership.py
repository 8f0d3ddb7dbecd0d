"""Decides whether raw bytes belong to one channel user.

The bytes are queue entries, dead letters and inbox rows. A valid envelope answers that itself.
Anything else, broken or of another shape, counts as theirs if their address appears in it as a
separate string: it can only become a dead letter, and the user wants to be forgotten.
"""

import json
import re
from dataclasses import dataclass

from message_worker_client.envelope import EnvelopeError, parse_envelope
from message_worker_client.envelope.storable import texts
from worker.domain.messages import ChannelAddress
from worker.domain.routing import ChannelPolicy
from worker.domain.text.normal_forms import normalized
from worker.handlers.intake.route import channel_address
from worker.queue.unwrap import layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Whether bytes belong to this channel user."""

    who: ChannelAddress
    policy: ChannelPolicy

    def __call__(self, raw: bytes) -> bool:
        """Decide; never raises."""
        is_named = False
        for layer, document in layers(raw):
            decided = self._decided(document)
            if decided is not None:
                return decided
            is_named = is_named or self._is_named(layer, document)
        return is_named

    def _decided(self, document: object) -> bool | None:
        """Decide by the envelope; None if it is not a valid one for this channel."""
        try:
            envelope = parse_envelope(document)
            # The channel first: `policy` says how addresses of this channel are written.
            return (
                envelope.channel == self.who.channel
                and channel_address(envelope, self.policy) == self.who
            )
        except EnvelopeError:
            return None

    def _is_named(self, raw: bytes, document: object) -> bool:
        wanted = _folded(self.who.address)
        if document is None:
            # Not JSON: perhaps UTF-16, hence without NULs, or JSON that was cut off, hence also in
            # JSON's escapes.
            text = _folded(raw.decode("utf-8", "replace").replace("\0", ""))
            escaped = json.dumps(normalized("NFC", self.who.address))[1:-1]
            forms = (wanted, _folded(escaped))
            return any(re.search(rf"(?<!\w){re.escape(one)}(?!\w)", text) for one in forms)
        return any(_folded(one) == wanted for one in texts(document))


def _folded(text: str) -> str:
    return normalized("NFC", text).casefold()
