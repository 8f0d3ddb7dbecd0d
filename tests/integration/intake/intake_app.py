"""A small Celery app behind the gate, for tests that run a real worker; dead letters go to a file.

Environment: INTAKE_BROKER; INTAKE_DIR, where rows go to `rows.jsonl` and runs to `runs.jsonl`, and
nothing can be written while a file `away` or `broken` is there; INTAKE_HOLE=1: a gate with a gap.
"""

import base64
import fcntl
import json
import logging
import os
import time
from pathlib import Path
from typing import Any, TextIO

from celery import Celery
from celery.signals import after_setup_logger

from worker.domain.errors import RetryableError
from worker.queue.gate.base_task import DeadLetteringTask, OnDefect
from worker.queue.gate.entry import Entry, RejectedEntry
from worker.queue.gate.gate import EntryGate
from worker.queue.gate.install import install_gate

HERE = Path(os.environ["INTAKE_DIR"])
ACCEPTS = {
    "inbound": {"messages.receive", "messages.fail", "messages.slow", "messages.away"},
    "turns": {"channel_users.answer"},
}


def append(name: str, row: dict[str, Any]) -> None:
    if (HERE / "away").exists():
        raise RetryableError("the file is away")
    if (HERE / "broken").exists():
        raise OSError(f"cannot write {row}")
    with (HERE / name).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(row) + "\n")


def keep(entry: RejectedEntry) -> None:
    row = {"reason": entry.reason, "raw": base64.b64encode(entry.raw).decode()}
    append("rows.jsonl", row | {"detail": entry.detail, "queue": entry.queue, "pid": os.getpid()})


class TellingHandler(logging.StreamHandler[TextIO]):
    """As a JSON log does: everything a record holds, not its line alone."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{super().format(record)} {vars(record)}"


@after_setup_logger.connect
def tell_all(logger: logging.Logger, **_: object) -> None:
    logger.addHandler(TellingHandler())


class OpenGate(EntryGate):
    """What a gap in the real one would do."""

    def _check_task(self, entry: Entry, queue: str) -> None:
        if entry.task != "ghost":
            super()._check_task(entry, queue)


app = Celery("intake_app", broker=os.environ["INTAKE_BROKER"], set_as_current=False)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    task_publish_retry=False,
    broker_connection_retry_on_startup=True,
    broker_channel_error_retry=True,
    broker_transport_options={
        "visibility_timeout": int(os.environ.get("INTAKE_VISIBILITY_S", "120")),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "socket_timeout": 5,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
    accept_content=["json"],
    worker_send_task_events=True,
    task_send_sent_event=True,
    task_create_missing_queues=True,
)
install_gate(app, keep=keep, accepts=ACCEPTS)
if os.environ.get("INTAKE_HOLE"):
    app.entry_gate.__class__ = OpenGate
DeadLetteringTask.pause_s = 0.2


def ran(task: DeadLetteringTask, args: dict[str, Any]) -> None:
    row = {"task": task.name, "args": args, "id": task.request.id, "pid": os.getpid()}
    append("runs.jsonl", row | {"raw_body": task.request.raw_body.decode()})


@app.task(name="messages.receive", bind=True, on_defect=OnDefect.DEAD_LETTER)
def receive(self: DeadLetteringTask, envelope: object) -> None:
    ran(self, {"envelope": envelope})


@app.task(name="messages.fail", bind=True, on_defect=OnDefect.DEAD_LETTER)
def fail(self: DeadLetteringTask, envelope: object) -> None:
    raise ValueError(f"cannot do {envelope}") from KeyError(str(envelope))


@app.task(name="messages.slow", bind=True)
def slow(self: DeadLetteringTask, envelope: object) -> None:
    time.sleep(3)
    ran(self, {"envelope": envelope})


@app.task(name="messages.away", bind=True)
def away(self: DeadLetteringTask, envelope: object) -> None:
    append("tries.jsonl", {})
    if (HERE / "telnyx_away").exists():
        raise RetryableError(str(envelope))
    ran(self, {"envelope": envelope})


@app.task(name="channel_users.answer", bind=True)
def answer(self: DeadLetteringTask, channel_user_id: int) -> None:
    ran(self, {"channel_user_id": channel_user_id})
