"""Whose bytes are: of entries on a queue, of dead letters, of the inbox.

An envelope that could be accepted says it. Whatever else there is, broken or of another shape, is
taken for his where his address stands in it as a text of its own: it can become nothing but a dead
letter, and he wants to be forgotten.
"""

import json
import re
import unicodedata
from dataclasses import dataclass

from worker.domain.messages import ChannelAddress
from worker.domain.routing import ChannelKind
from worker.envelope import EnvelopeError, parse_envelope
from worker.envelope.storable import texts
from worker.handlers.intake.channel_address import channel_address
from worker.queue.unwrap import layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Belonging:
    """Says of bytes whether they are this channel user's."""

    who: ChannelAddress
    kind: ChannelKind

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
        """Decide by the envelope; None = it is none, or one that his channel refuses."""
        try:
            envelope = parse_envelope(document)
            # Another channel's kind is not ours to judge its addresses by.
            return (
                envelope.channel == self.who.channel
                and channel_address(envelope, self.kind) == self.who
            )
        except (EnvelopeError, RecursionError):
            return None

    def _is_named(self, raw: bytes, document: object) -> bool:
        wanted = _folded(self.who.address)
        if document is None:
            # Also where each letter takes two bytes, and where JSON was cut off.
            text = _folded(raw.decode("utf-8", "replace").replace("\0", ""))
            forms = (wanted, _folded(json.dumps(_composed(self.who.address))[1:-1]))
            return any(re.search(rf"(?<!\w){re.escape(one)}(?!\w)", text) for one in forms)
        try:
            return any(_folded(one) == wanted for one in texts(document))
        except RecursionError:
            return False


def _folded(text: str) -> str:
    return _composed(text).casefold()


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
