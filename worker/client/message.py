"""From what a producer gives to what is sent: an envelope as JSON, checked as it was written."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from worker.client.checks import MAX_BODY_BYTES, VERSION, fault_in
from worker.client.errors import ProducerError

QUEUE: Final = "inbound"
_TASK: Final = "messages.receive"
_HIDDEN: Final = "(hidden)"
"""Stands where Celery would quote the arguments for Flower, events and logs."""
_BEFORE, _AFTER = '[[], {"envelope": ', "}, {}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An envelope that a worker will take, written as JSON."""

    text: str
    channel: str
    user: str
    message_id: str

    @property
    def body(self) -> str:
        """The body of the Celery message: `[args, kwargs, embed]`."""
        return f"{_BEFORE}{self.text}{_AFTER}"


def checked(fields: Mapping[str, object]) -> Checked:
    """Write an envelope and check what was written. Raises `ProducerError` naming a field."""
    if not isinstance(fields, Mapping):
        raise ProducerError("envelope: give an object", field="envelope")
    text, envelope = _written({"version": VERSION, **fields})
    fault = fault_in(envelope, text)
    if fault is None and len(text.encode()) + len(_BEFORE) + len(_AFTER) > MAX_BODY_BYTES:
        fault = ("envelope", f"at most {MAX_BODY_BYTES} bytes as JSON, with what is around it")
    if fault is not None:
        field, fix = fault
        raise ProducerError(f"{field}: {fix}", field=field)
    return Checked(
        text=text,
        channel=envelope["channel"],
        user=envelope["user"],
        message_id=envelope["message_id"],
    )


def headers() -> dict[str, Any]:
    """Make the headers of one message of Celery's protocol 2."""
    task_id = str(uuid4())
    return {
        "lang": "py",
        "task": _TASK,
        "id": task_id,
        "root_id": task_id,
        "parent_id": None,
        "group": None,
        "retries": 0,
        "eta": None,
        "expires": None,
        "timelimit": [None, None],
        "argsrepr": _HIDDEN,
        "kwargsrepr": _HIDDEN,
        "origin": "worker.client",
        "ignore_result": True,
        **_trace(),
    }


def _trace() -> dict[str, str]:
    """Give W3C's header where the caller is within a span of OpenTelemetry, which he imported."""
    current = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if current is None:  # or half imported by another thread
        return {}
    here = current().get_span_context()
    if not here.is_valid:
        return {}
    return {"traceparent": f"00-{here.trace_id:032x}-{here.span_id:016x}-{here.trace_flags:02x}"}


def _written(fields: dict[str, object]) -> tuple[str, dict[str, Any]]:
    """Give it as JSON, and what a worker reads there: tuples have become lists."""
    try:
        text = json.dumps(fields, ensure_ascii=False, allow_nan=False, default=_plain)
        return text, json.loads(text)
    except (TypeError, ValueError, RecursionError):
        pass  # the error's text may quote the value
    raise ProducerError(
        "envelope: give what JSON has: text, finite numbers, lists, objects", field="envelope"
    )


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case Mapping():
            return dict(value)
        case _:
            raise TypeError
