"""The result of a task, which Celery's events carry and Flower shows: words of ours and row ids.

    answered message=32 turn=22        refused envelope_invalid user
    waiting message=32                 dead no_answer message=32 turn=22
    repeated message=32                skipped opt_out message=32
    held inbox=7

Never a text, an address or a channel's id. docs/how-to/watch-with-flower.md lists the forms.
"""

import re
from typing import Final

from worker.domain.ids import DeliveryId
from worker.domain.states import DeliveryState

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
