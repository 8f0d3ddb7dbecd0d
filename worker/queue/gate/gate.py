# mypy: disallow-untyped-calls=False
"""The entry gate: turns an entry popped off a task queue into a safe message before Celery sees it.

    entry ──valid────▶ the same task and arguments, in a wrapper of our own making
          └─rejected─▶ a call of our task `dead_letters.keep` with the bytes and the reason

So rejected entries need no path of their own. Like every message they stay in Redis's hash
`unacked` until the task has committed its row, come back if this process dies, and wait for
Postgres on a thread of the pool instead of in the loop that reads the queues.

Valid messages get a new wrapper too, because kombu and Celery trust the producer's: equal delivery
tags overwrite each other in `unacked`, an undeclared exchange restores a message to nowhere, a
broken `eta` or `timelimit` raises, and `shadow`, `argsrepr` and ids are logged.
"""

import itertools
import json
import uuid
from collections.abc import Callable, Collection, Mapping
from inspect import Signature, signature
from typing import Any, Final, Self

from kombu.message import Message as PlainMessage
from kombu.transport import virtual

from message_worker_client.envelope.wire import MAX_BODY_BYTES, MAX_ENTRY_BYTES, RECEIVE
from worker.domain.reasons import DeadLetterReason as Reason
from worker.observability import metrics
from worker.observability.logs import log
from worker.queue.gate.control import read_broadcast
from worker.queue.gate.entry import Entry, EntryRefusedError, RejectedEntry

DEAD_LETTER_TASK: Final = "dead_letters.keep"
HIDDEN: Final = "(hidden)"
"""Celery shows this in place of arguments. For an empty string it would show the real ones."""
_REJECTED_BEGINS: Final = b'{"headers": {"task": "dead_letters.keep"'
"""The beginning of a rejected entry as we write it, here and in every earlier release.

It is read again if Postgres was away, and has a larger body than a message may have.
"""
_MAX_CALL_BYTES: Final = MAX_ENTRY_BYTES * 4 // 3 + 1024
"""Of that body: base64 of the bytes."""

# Delivery tags must be unique among all processes. A UUID for each would cost a system call.
_PROCESS: Final = uuid.uuid4().hex
_NUMBERS: Final = itertools.count()


class Admitted(dict[str, Any]):
    """A message in kombu's form, with its body as bytes and as parsed JSON."""

    __slots__ = ("body", "payload")

    def __init__(self, fields: dict[str, Any], *, body: bytes, payload: Any) -> None:  # noqa: ANN401
        super().__init__(fields)
        self.body = body
        self.payload = payload

    def __repr__(self) -> str:
        return f"Admitted({len(self.body)} bytes)"


class Broadcast(Admitted):
    """A remote control command, or a reply or an event: no entry of a task queue."""

    @classmethod
    def of(cls, headers: dict[str, Any], body: bytes, content: Any, where: dict[str, Any]) -> Self:  # noqa: ANN401
        """Make one."""
        fields = {
            "headers": headers,
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "properties": {"delivery_tag": next_tag(), "delivery_info": where},
        }
        return cls(fields, body=body, payload=content)


def broadcast(raw: bytes, *, queue: str, delivery_info: dict[str, Any]) -> Broadcast | None:
    """Turn any bytes into a message; None = it is dropped. Never raises."""
    read = read_broadcast(raw, queue=queue)
    if read is None:
        return None
    return Broadcast.of(*read, delivery_info)


def next_tag() -> str:
    """Return a delivery tag that no other process has."""
    return f"{_PROCESS}-{next(_NUMBERS)}"


class GatedMessage(virtual.Message):
    """A message whose base64 and JSON the gate has already decoded."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:  # noqa: ANN401
        if not isinstance(payload, Admitted):
            # A connection without a gate, such as a producer's.
            super().__init__(payload, channel=channel, **kwargs)
            return
        self._raw = payload
        properties = payload["properties"]
        PlainMessage.__init__(
            self,
            body=payload.body,
            channel=channel,
            delivery_tag=properties["delivery_tag"],
            content_type=payload["content-type"],
            content_encoding=payload["content-encoding"],
            headers=payload["headers"],
            properties=properties,
            delivery_info=properties["delivery_info"],
            **kwargs,
        )
        self._decoded_cache = payload.payload


class EntryGate:
    """Admits calls of the right tasks on each queue, and makes dead letters of everything else.

    `tasks`: returns all tasks by name, called when an entry comes. `accepts`: task names by queue.
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
        """Number of entries so far; the stall watchdog checks that it grows."""
        self.empty_at = 0.0
        """When Redis last answered, by the monotonic clock, that all queues are empty."""
        self.turns: Callable[[], int] | None = None
        """Returns how many turns this process works on; None = it takes what it has threads for."""

    def __repr__(self) -> str:
        # Celery prints `broker_transport_options`, which hold the gate.
        return f"EntryGate({', '.join(sorted(self._accepts))})"

    def __json__(self) -> str:
        """Return what `inspect stats` shows of it: Flower asks for that, in JSON."""
        return repr(self)

    @property
    def queues(self) -> frozenset[str]:
        """Queues that are read through this gate."""
        return frozenset(self._accepts)

    def admit(self, raw: bytes, *, queue: str, priority: int, tag: str | None = None) -> Admitted:
        """Turn any bytes into a message. Never raises. `tag`: of the delivery; None = a new one."""
        self.admitted += 1
        # We write ASCII. Other text takes four times its length as soon as one letter does.
        is_call = raw.startswith(_REJECTED_BEGINS) and raw.isascii()
        limit = _MAX_CALL_BYTES if is_call else self._max_body_bytes
        try:
            entry = Entry.parse(raw, max_body_bytes=limit)
            self._check_task(entry, queue)
        except EntryRefusedError as refusal:
            reason, detail = refusal.reason, refusal.detail
        except Exception as error:  # noqa: BLE001 - a defect of ours costs one entry, not the worker
            reason, detail = Reason.NOT_UNDERSTOOD, type(error).__name__
        else:
            if entry.ignored:
                for asked in entry.ignored:
                    metrics.IGNORED.labels(asked).inc()
                log.warning("entry.ignored", task=entry.task_id, ignored=entry.ignored)
            return _admitted(entry, queue, priority, tag)
        rejected = RejectedEntry.of(raw, reason=reason, detail=detail, queue=queue)
        return self.set_aside(rejected, priority=priority, tag=tag)

    def set_aside(
        self, rejected: RejectedEntry, *, priority: int = 0, tag: str | None = None
    ) -> Admitted:
        """Make a call of `dead_letters.keep`, to be delivered or put on the entry's queue."""
        task_id = rejected.sender.task_id
        log.warning(
            "entry.set_aside",
            task=task_id,
            reason=rejected.reason,
            detail=rejected.detail,
            queue=rejected.queue,
            size_bytes=len(rejected.raw),
        )
        args = rejected.as_args()
        text = json.dumps([args, {}, {}])
        call = Entry(
            task=DEAD_LETTER_TASK,
            # The producer's own, who looks for it in Flower.
            task_id=task_id or str(uuid.uuid4()),
            args=args,
            body=text.encode(),
            body_text=text,
        )
        return _admitted(call, rejected.queue, priority, tag)

    def _check_task(self, entry: Entry, queue: str) -> None:
        tasks = self._tasks()
        if entry.task not in tasks:
            fix = f"no task of that name: messages are sent as {RECEIVE}"
            raise EntryRefusedError(Reason.UNKNOWN_TASK, fix)
        if entry.task == DEAD_LETTER_TASK:
            try:
                RejectedEntry.from_args(entry.args)
            except ValueError:
                fault = "not written by this service"
                raise EntryRefusedError(Reason.BAD_ARGUMENTS, fault) from None
        elif entry.task not in self._accepts[queue]:
            raise EntryRefusedError(Reason.WRONG_QUEUE, "not a task of this queue")
        try:
            known = self._signatures[entry.task]
        except KeyError:
            known = self._signatures[entry.task] = signature(tasks[entry.task].run)
        try:
            known.bind(*entry.args, **entry.kwargs)
        except TypeError:
            # `from None`: the original names the arguments, and a stranger chose those.
            raise EntryRefusedError(Reason.BAD_ARGUMENTS, "not the task's arguments") from None


def _admitted(entry: Entry, queue: str, priority: int, tag: str | None) -> Admitted:
    redelivered = entry.redelivered
    headers = {"task": entry.task, "id": entry.task_id, "lang": "py", **entry.links}
    if entry.ignored:
        headers["ignored"] = ",".join(entry.ignored)
    shown = {"argsrepr": HIDDEN, "kwargsrepr": HIDDEN, "redelivered": redelivered}
    # The default exchange with the queue as routing key: kombu then restores it to this very list.
    where = {"exchange": "", "routing_key": queue, "redelivered": redelivered}
    fields = {
        # `headers` first, and `task` first in it: see _REJECTED_BEGINS.
        "headers": headers | shown,
        "body": entry.body_text,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": {
            "delivery_tag": tag or next_tag(),
            "delivery_info": where,
            "delivery_mode": 2,
            "priority": priority,
            "body_encoding": entry.body_encoding,
        },
    }
    return Admitted(fields, body=entry.body, payload=[entry.args, entry.kwargs, {}])
