"""The gate: an entry popped off a task queue becomes a safe message before Celery sees it.

    entry ──good──▶ the same task and arguments, in a wrapper of our own making
          └─bad───▶ a call of our task `dead_letters.keep`, which carries the bytes and the reason

So bad entries need no way of their own: like every message they stand in Redis's hash `unacked`
until the task has committed its row, come back when this process dies, and wait for Postgres on a
thread of the pool instead of in the loop that reads the queues.

Good messages get a new wrapper too, because kombu and Celery trust what strangers write into it:
equal delivery tags overwrite each other in `unacked`, an exchange nobody declared restores a
message to nowhere, a broken `eta` or `timelimit` raises, `shadow`, `argsrepr` and ids are logged.
"""

import itertools
import json
import logging
import uuid
from collections.abc import Callable, Collection, Mapping
from inspect import Signature, signature
from typing import Any, Final

from worker.domain.reasons import DeadLetterReason as Reason
from worker.envelope.wire import MAX_BODY_BYTES
from worker.queue.gate.entry import Entry, EntryRefusedError
from worker.queue.gate.rejected_entry import RejectedEntry

DEAD_LETTER_TASK: Final = "dead_letters.keep"
HIDDEN: Final = "(hidden)"
"""Stands for arguments wherever Celery shows them; where it finds "" it shows the real ones."""
_LETTER_BEGINS: Final = b'{"headers": {"task": "dead_letters.keep"'
"""How we write a letter. It is read again when Postgres was away, and may be of any size."""

# A delivery's tag is a key among those of all processes. A random one for each is a system call.
_PROCESS: Final = uuid.uuid4().hex
_NUMBERS: Final = itertools.count()

logger = logging.getLogger(__name__)


class Admitted(dict[str, Any]):
    """A message in kombu's form, with what reading it has given: its body as bytes and as JSON."""

    __slots__ = ("body", "payload")

    def __init__(self, fields: dict[str, Any], *, body: bytes, payload: list[Any]) -> None:
        super().__init__(fields)
        self.body = body
        self.payload = payload


class EntryGate:
    """Which task may come in on which queue, and what becomes of everything else.

    `tasks`: all tasks by name, asked when the first entry comes. `accepts`: task names by queue.
    """

    def __init__(
        self,
        *,
        tasks: Callable[[], Mapping[str, Any]],
        accepts: Mapping[str, Collection[str]],
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._tasks = tasks
        self._accepts = {queue: frozenset(names) for queue, names in accepts.items()}
        self._max_body_bytes = max_body_bytes
        self._signatures: dict[str, Signature] = {}
        self.admitted = 0
        """How many entries have come in; the stall watchdog looks whether it moves."""

    def __repr__(self) -> str:  # stands in `broker_transport_options`, which Celery prints
        return f"EntryGate({', '.join(sorted(self._accepts))})"

    def __json__(self) -> str:
        """Stand like that in what `inspect stats` answers, which Flower asks for."""
        return repr(self)

    @property
    def queues(self) -> frozenset[str]:
        """The queues whose every entry passes here."""
        return frozenset(self._accepts)

    def admit(self, raw: bytes, *, queue: str, priority: int) -> Admitted:
        """Turn any bytes into a message; never raises."""
        self.admitted += 1
        limit = None if raw.startswith(_LETTER_BEGINS) else self._max_body_bytes
        try:
            entry = Entry.parse(raw, max_body_bytes=limit)
            self._check_task(entry, queue)
        except EntryRefusedError as refusal:
            reason, detail = refusal.reason, refusal.detail
        except Exception as error:  # noqa: BLE001 - a defect of ours costs a letter, not the worker
            reason, detail = Reason.NOT_UNDERSTOOD, type(error).__name__
        else:
            return _wrapped(entry, queue, priority)
        letter = RejectedEntry(raw=raw, reason=reason, detail=detail, queue=queue)
        return self.set_aside(letter, priority=priority)

    def set_aside(self, letter: RejectedEntry, *, priority: int = 0) -> Admitted:
        """Make a call of `dead_letters.keep`, to be delivered or put on the letter's queue."""
        # Not the detail: where the letter comes from a stranger, its words are his.
        logger.warning(
            "entry_set_aside reason=%s queue=%s size_bytes=%d",
            letter.reason,
            letter.queue,
            len(letter.raw),
        )
        payload = [letter.as_args(), {}, {}]
        text = json.dumps(payload)
        fields = _message(
            text,
            body_encoding="utf-8",
            headers={"task": DEAD_LETTER_TASK, "id": str(uuid.uuid4())},
            queue=letter.queue,
            priority=priority,
            redelivered=False,
        )
        return Admitted(fields, body=text.encode(), payload=payload)

    def _check_task(self, entry: Entry, queue: str) -> None:
        tasks = self._tasks()
        if entry.task not in tasks:
            raise EntryRefusedError(Reason.UNKNOWN_TASK, "no task of that name")
        if entry.task == DEAD_LETTER_TASK:
            _check_letter(entry)
        elif entry.task not in self._accepts[queue]:
            raise EntryRefusedError(Reason.WRONG_QUEUE, "not a task of this queue")
        try:
            known = self._signatures[entry.task]
        except KeyError:
            known = self._signatures[entry.task] = signature(tasks[entry.task].run)
        try:
            known.bind(*entry.args, **entry.kwargs)
        except TypeError:  # its text has the names of the arguments
            raise EntryRefusedError(Reason.BAD_ARGUMENTS, "not the task's arguments") from None


def _check_letter(entry: Entry) -> None:
    try:
        RejectedEntry.from_args(entry.args)
    except ValueError:
        raise EntryRefusedError(Reason.BAD_ARGUMENTS, "a letter not written by us") from None


def _wrapped(entry: Entry, queue: str, priority: int) -> Admitted:
    fields = _message(
        entry.body_text,
        body_encoding=entry.body_encoding,
        headers={"task": entry.task, "id": entry.task_id, **entry.links},
        queue=queue,
        priority=priority,
        redelivered=entry.redelivered,
    )
    return Admitted(fields, body=entry.body, payload=[entry.args, entry.kwargs, {}])


def _message(
    body: str,
    *,
    body_encoding: str,
    headers: dict[str, str],
    queue: str,
    priority: int,
    redelivered: bool,
) -> dict[str, Any]:
    shown = {"lang": "py", "argsrepr": HIDDEN, "kwargsrepr": HIDDEN, "redelivered": redelivered}
    # AMQP's default exchange and the queue as routing key: restored to this very list, always.
    where = {"exchange": "", "routing_key": queue, "redelivered": redelivered}
    return {
        "headers": headers | shown,  # this first, and `task` first in it: see _LETTER_BEGINS
        "body": body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": {
            "delivery_tag": f"{_PROCESS}-{next(_NUMBERS)}",
            "delivery_info": where,
            "delivery_mode": 2,
            "priority": priority,
            "body_encoding": body_encoding,
        },
    }
