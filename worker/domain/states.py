"""The states that rows go through; their values are stored and read by operators."""

from enum import StrEnum
from typing import Final

SWITCHED_OFF: Final = "switched_off"
"""Reason of the gate of an endpoint that nobody tries any more, see `store.delivery.endpoints`."""


class MessageState(StrEnum):
    """pending -> in_turn -> answered | dead | expired | human | skipped."""

    PENDING = "pending"
    IN_TURN = "in_turn"
    ANSWERED = "answered"
    DEAD = "dead"
    EXPIRED = "expired"
    HUMAN = "human"
    SKIPPED = "skipped"


class TurnKind(StrEnum):
    """Who speaks in it: the model answers, or one of our people wrote."""

    MODEL = "model"
    HUMAN = "human"


class TurnState(StrEnum):
    """open -> answered | failed."""

    OPEN = "open"
    ANSWERED = "answered"
    FAILED = "failed"


class CallState(StrEnum):
    """intended -> not_sent | refused | done | unknown."""

    INTENDED = "intended"
    NOT_SENT = "not_sent"
    REFUSED = "refused"
    DONE = "done"
    UNKNOWN = "unknown"


class ToolCallState(StrEnum):
    """started -> done | failed | unknown."""

    STARTED = "started"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


class ReplySource(StrEnum):
    """Where a reply's text came from."""

    CALL = "call"
    ADOPTED = "adopted"
    FALLBACK = "fallback"
    HUMAN = "human"


class DeliveryState(StrEnum):
    """pending -> sending -> sent | failed | unknown | expired; withheld, superseded, cancelled."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    UNKNOWN = "unknown"
    WITHHELD = "withheld"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class DeadLetterKind(StrEnum):
    """What lies there: bytes that were no envelope, an accepted message, or a reply."""

    ENVELOPE = "envelope"
    MESSAGE = "message"
    DELIVERY = "delivery"


class Resolution(StrEnum):
    """What a person did about a dead letter."""

    REPLAYED = "replayed"
    DISMISSED = "dismissed"
