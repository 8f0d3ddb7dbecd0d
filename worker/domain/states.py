"""The states of rows, whose values are stored, and the results of tasks. Operators read both."""

import re
from enum import StrEnum
from typing import Final

from worker.domain.ids import DeliveryId

SWITCHED_OFF: Final = "switched_off"
"""Reason of a webhook endpoint's gate that stays closed, see `store.delivery.gates`."""


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
    """Who wrote the reply: the model or one of our staff."""

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
    """The origin of a reply's text."""

    CALL = "call"
    ADOPTED = "adopted"
    FALLBACK = "fallback"
    HUMAN = "human"
    EDITED = "edited"
    """The model's, changed by one of our staff before it went out."""
    HAND_OVER = "hand_over"
    """Tells the person that our staff takes over."""


class DeliveryState(StrEnum):
    """pending -> sending -> sent | failed | unknown | expired.

    Besides: held (a draft), rejected, withheld, superseded, cancelled, opted_out.
    """

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    UNKNOWN = "unknown"
    WITHHELD = "withheld"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    OPTED_OUT = "opted_out"
    HELD = "held"
    """A draft: a person decides."""
    REJECTED = "rejected"
    """That person does not want it to go out."""


class ConsentSource(StrEnum):
    """How it became known that a person has opted out or in."""

    TELNYX_KEYWORD = "telnyx_keyword"
    """Telnyx recognised STOP or START, and blocks or unblocks the person itself."""
    TELNYX_BLOCK = "telnyx_block"
    """Telnyx refused a message to them: they are blocked there."""
    NATURAL = "natural"
    """Our screening recognised it in what they wrote."""
    SIGNAL = "signal"
    """A producer said so in the envelope."""
    OPERATOR = "operator"
    IMPORT = "import"
    BOUNCE = "bounce"
    """A mail to them came back for good."""


class DeadLetterKind(StrEnum):
    """The content of a dead letter: bytes that were not accepted, a message, or a reply."""

    ENVELOPE = "envelope"
    MESSAGE = "message"
    DELIVERY = "delivery"


class Resolution(StrEnum):
    """How an operator resolved a dead letter."""

    REPLAYED = "replayed"
    DISMISSED = "dismissed"


# The result of a task, which Celery's events carry and Flower shows: words of ours and row ids.
#
#     answered message=32 turn=22        refused envelope_invalid user
#     waiting message=32                 dead no_answer message=32 turn=22
#     repeated message=32                skipped opt_out message=32
#     held inbox=7
#
# Never a text, an address or a channel's id. docs/how-to/watch-with-flower.md lists the forms.
WAITING: Final = "waiting"
NOTHING: Final = "nothing due"
_FAILED: Final = re.compile(r"(?:^|, )(?:refused|dead|failed) ")


def ended_as(state: str, outcome: str) -> str:
    """Describe the end of a message by the state and the outcome of its row."""
    return state if state == outcome else f"{state} {outcome}"


def has_failed(result: str) -> bool:
    """Return whether the task made a dead letter."""
    return _FAILED.search(result) is not None


def attempt_result(state: DeliveryState, delivery: DeliveryId) -> str:
    """Describe the state of a delivery after an attempt."""
    again = state in {DeliveryState.PENDING, DeliveryState.SENDING}
    return f"{WAITING if again else state} delivery={delivery}"
