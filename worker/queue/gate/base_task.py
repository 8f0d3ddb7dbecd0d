# mypy: disallow-untyped-calls=False
"""The base class of our tasks decides about the message when a task raises.

    returns                   acknowledged
    Reject, Ignore, Retry     as Celery defines
    RetryableError            back on its queue, behind all others, after a short pause
    anything else: a defect   as the task's `on_defect` says

Celery acknowledges a message whose task failed, and writes the text of the exception into the log
and into the events that Flower shows. Exceptions quote what people wrote, so Celery gets one that
has only type and place.
"""

import time
import traceback
from dataclasses import replace
from enum import Enum, auto
from pathlib import Path
from typing import Any, ClassVar

from celery import Task
from celery.exceptions import Ignore, Reject, Retry
from celery.worker.request import Request
from structlog.contextvars import bound_contextvars

from worker.domain.errors import RetryableError, named
from worker.domain.messages import Sender
from worker.domain.reasons import DeadLetterReason
from worker.domain.states import has_failed
from worker.queue.gate.entry import RejectedEntry
from worker.queue.gate.gate import HIDDEN, GatedMessage
from worker.queue.gate.headers import SENDER_HEADERS

_FRAMES = 6


def sender_of(request: Any) -> Sender:  # noqa: ANN401 - Celery publishes no types
    """Return the sender of a running task, from the headers that the gate has let through."""
    headers = {name: request.get(name) for name in SENDER_HEADERS}
    given = {name: value for name, value in headers.items() if isinstance(value, str)}
    return Sender(task_id=request.id, headers=given)


class OnDefect(Enum):
    """The fate of a message whose task has a defect."""

    DROP = auto()
    """Acknowledge it: it was a hint, and Postgres holds what it pointed to."""
    DEAD_LETTER = auto()
    """Keep it as a dead letter, reason `task_failed`: it is the only copy."""
    REQUEUE = auto()
    """Try again until it works."""


class TaskDefectError(Exception):
    """Stands for an unexpected exception in front of Celery: type and place, no text."""


class PrivateRequest(Request):
    """Celery's view of a running task, without what people wrote.

    Task events (Flower), `inspect active` and `reserved` and the log lines "received" and
    "succeeded" are made from it. A task class names its `Request`; that is no public interface.
    """

    def __init__(self, message: GatedMessage, **options: Any) -> None:  # noqa: ANN401
        """Take the decoded body: Celery's own decodes it here and again on the pool's thread."""
        super().__init__(message, **(options | {"body": message.payload, "decoded": True}))
        self._argsrepr = self._kwargsrepr = HIDDEN
        # A task reads it as `self.request.raw_body`: the bytes of [args, kwargs, embed].
        self._request_dict["raw_body"] = message.body

    def revoked(self) -> bool:
        """Never skip a message: its id may have come from anywhere, a file of `--statedb` too."""
        return False

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002, ANN401 - Celery's
        """Send an event; a task that made a dead letter shows as failed, without a traceback."""
        if type == "task-succeeded":
            # Celery has the `repr` of what the task returned.
            result = str(fields["result"]).strip("'")
            fields["result"] = result
            if has_failed(result):
                type, fields["exception"] = "task-failed", result  # noqa: A001
        super().send_event(type, **fields)

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002 - Celery's
        """Answer `inspect` in the safe form; Celery's default shows the arguments."""
        shown: dict[str, Any] = super().info(safe=True)
        return shown


class DeadLetteringTask(Task):
    """Runs a task, and turns its exceptions into ones that Celery handles as we need."""

    Request = PrivateRequest
    on_defect: ClassVar[OnDefect] = OnDefect.DROP
    pause_s: ClassVar[float] = 1.0
    """Time that a requeued message holds its thread: without it, the loop would spin."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Run the task. Calls outside of a worker are left to Celery."""
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        try:
            # Every line that is logged meanwhile carries the task's id.
            with bound_contextvars(task=self.request.id):
                return self.run(*args, **kwargs)
        except (Ignore, Reject, Retry):
            raise
        except RetryableError as error:
            defect, pause_s = None, error.retry_after_s
        except Exception as error:  # noqa: BLE001 - the edge to Celery
            defect, pause_s = _place(error), None
        # Outside of `except`: otherwise the new exception has the old one as its context, and
        # Celery logs both.
        if defect is None:
            raise self._requeue("retryable", pause_s)
        raise self._after_defect(defect)

    def _after_defect(self, defect: str) -> Exception:
        if self.on_defect is OnDefect.REQUEUE:
            return self._requeue(defect)
        if self.on_defect is OnDefect.DEAD_LETTER and not self._keep(defect, self.request.raw_body):
            return self._requeue(f"{defect}; keeping the message failed, too")
        return TaskDefectError(defect)

    def keep_part(self, error: Exception, raw: bytes) -> None:
        """Keep a part of the message, on which the task failed; the task goes on with the others.

        Raises `Reject` if that fails, too.
        """
        defect = _place(error)
        if not self._keep(defect, raw):
            raise self._requeue(f"{defect}; keeping the message failed, too")

    def _keep(self, defect: str, raw: bytes) -> bool:
        try:
            self.app.keep_dead_letter(
                RejectedEntry(
                    raw=raw,
                    reason=DeadLetterReason.TASK_FAILED,
                    detail=defect,
                    queue=self.request.delivery_info["routing_key"],
                    sender=sender_of(self.request),
                )
            )
        except Exception:  # noqa: BLE001 - for any error, the message must not be acknowledged
            return False
        return True

    def _requeue(self, why: str, pause_s: float | None = None) -> Exception:
        time.sleep(self.pause_s if pause_s is None else min(pause_s, self.pause_s))
        requeue: Exception = Reject(why, requeue=True)
        return requeue


def keep_dead_letter(
    task: DeadLetteringTask, raw: str, reason: str, detail: str, queue: str
) -> str:
    """Commit the dead letter, then let Celery acknowledge. Runs as task `dead_letters.keep`."""
    letter = RejectedEntry.from_args([raw, reason, detail, queue])
    # Of a large entry the id is not in the bytes that were kept; this call has it.
    sender = replace(letter.sender, task_id=letter.sender.task_id or task.request.id)
    task.app.keep_dead_letter(replace(letter, sender=sender))
    return f"refused {reason}"


def _place(error: BaseException) -> str:
    """Return an exception's type and the places it passed, innermost first; never its text."""
    frames = reversed(traceback.extract_tb(error.__traceback__)[-_FRAMES:])
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return " < ".join([named(error), *places])
