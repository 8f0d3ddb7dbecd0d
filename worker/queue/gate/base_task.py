"""The base class of our tasks: what becomes of the message when a task raises.

    returns                   acknowledged
    Reject, Ignore, Retry     as Celery says
    RetryableError            back on its queue, behind all that wait, after a short pause
    anything else: a defect   what the task's `on_defect` says

Celery acknowledges a message whose task failed, and writes the text of the exception into the log
and into the events Flower shows. Exceptions quote what people wrote; Celery gets one that has only
type and place.
"""

import time
import traceback
from enum import Enum, auto
from pathlib import Path
from typing import Any, ClassVar

from celery import Task
from celery.exceptions import Ignore, Reject, Retry
from structlog.contextvars import bound_contextvars

from worker.domain.errors import RetryableError
from worker.domain.reasons import DeadLetterReason
from worker.queue.gate.rejected_entry import RejectedEntry
from worker.queue.gate.request import PrivateRequest

_FRAMES = 6


class OnDefect(Enum):
    """What becomes of the message when its task has a defect."""

    DROP = auto()
    """Acknowledged: it was a hint, what it hints at stands in Postgres."""
    DEAD_LETTER = auto()
    """A dead letter, `task_failed`: it is the only copy."""
    REQUEUE = auto()
    """Again, until it works."""


class TaskDefectError(Exception):
    """What Celery is told of an unexpected exception."""


class DeadLetteringTask(Task):
    """Names our Request, and stands between the task and what Celery does with exceptions."""

    Request = PrivateRequest
    on_defect: ClassVar[OnDefect] = OnDefect.DROP
    pause_s: ClassVar[float] = 1.0
    """How long a message that goes back holds its thread, so that nothing spins."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Run it. Celery's own is for calls outside of a worker."""
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        try:
            # Whatever is logged meanwhile says in which task: the id that its producer gave it.
            with bound_contextvars(task=self.request.id):
                return self.run(*args, **kwargs)
        except (Ignore, Reject, Retry):
            raise
        except RetryableError as error:
            defect, pause_s = None, error.retry_after_s
        except Exception as error:  # noqa: BLE001 - the edge to Celery
            defect, pause_s = _place(error), None
        # Not inside `except`: the new exception would carry the old one as its context.
        if defect is None:
            raise self._requeue("retryable", pause_s)
        raise self._after_defect(defect)

    def _after_defect(self, defect: str) -> Exception:
        if self.on_defect is OnDefect.REQUEUE:
            return self._requeue(defect)
        if self.on_defect is OnDefect.DEAD_LETTER and not self._keep(defect):
            return self._requeue(f"{defect}, and it could not be kept")
        return TaskDefectError(defect)

    def _keep(self, defect: str) -> bool:
        try:
            self.app.keep_dead_letter(
                RejectedEntry(
                    raw=self.request.raw_body,
                    reason=DeadLetterReason.TASK_FAILED,
                    detail=defect,
                    queue=self.request.delivery_info["routing_key"],
                )
            )
        except Exception:  # noqa: BLE001 - whatever it is, the message must not be acknowledged
            return False
        return True

    def _requeue(self, why: str, pause_s: float | None = None) -> Exception:
        time.sleep(self.pause_s if pause_s is None else min(pause_s, self.pause_s))
        requeue: Exception = Reject(why, requeue=True)
        return requeue


def keep_dead_letter(
    task: DeadLetteringTask, raw: str, reason: str, detail: str, queue: str
) -> None:
    """Commit the row; after that the message is acknowledged. The task `dead_letters.keep`."""
    task.app.keep_dead_letter(RejectedEntry.from_args([raw, reason, detail, queue]))


def _place(error: BaseException) -> str:
    """Give an exception's type and the places it passed, inmost first; never its text."""
    frames = reversed(traceback.extract_tb(error.__traceback__)[-_FRAMES:])
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return " < ".join([type(error).__qualname__, *places])
