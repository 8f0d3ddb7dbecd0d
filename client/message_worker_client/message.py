"""From a producer's fields to the message that is sent: an envelope as JSON, checked as written."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from message_worker_client.envelope import VERSION, Envelope, EnvelopeError, parse_envelope
from message_worker_client.envelope.strict_json import JsonRefusedError, check_shape
from message_worker_client.envelope.wire import (
    DEPTH_AROUND,
    MAX_BODY_BYTES,
    MAX_DEPTH,
    MAX_VALUES,
    RECEIVE,
)

_HIDDEN: Final = "(hidden)"
"""Stands where Celery would quote the arguments for Flower, events and logs."""
_LIST_WEIGHT: Final = MAX_VALUES
"""Characters of a list: so many hold no more than half as many values."""
_BEFORE, _AFTER = '[[], {"envelope": ', "}, {}]"


class ProducerError(Exception):
    """Something is not certainly queued. `str()` never holds a text, an address or a URL.

    `field` names the field to correct: this message is not queued, and never will be as it is.
    Without a field it was not confirmed: send it again, which is safe.
    """

    def __init__(
        self, message: str, *, field: str | None = None, confirmed: int = 0, uncertain: int = 0
    ) -> None:
        super().__init__(message)
        self.field = field
        """The field at fault, or "envelope"; None = the message is valid, but not confirmed."""
        self.confirmed = confirmed
        """How many of the call's messages are certainly queued: the first ones."""
        self.uncertain = uncertain
        """How many after those may be queued or not; none of the rest is. 0 = none of them is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An envelope that a worker will take, written as JSON."""

    text: str
    envelope: Envelope
    task_id: str
    """Of its Celery task."""


def checked(fields: Mapping[str, object]) -> Checked:
    """Write an envelope and check it as a worker will. Raises `ProducerError` naming a field."""
    if not isinstance(fields, Mapping):
        raise ProducerError("envelope: give an object", field="envelope")
    text, document = _written({"version": VERSION, **fields})
    try:
        check_shape(f"{_BEFORE}{text}{_AFTER}".encode("utf-8", "surrogatepass"), MAX_DEPTH)
    except JsonRefusedError as error:
        if error.fault == "too_deep":
            raise _too_large(
                f"{MAX_DEPTH - DEPTH_AROUND} lists and objects inside each other"
            ) from None
        raise _too_large(f"{MAX_VALUES} values, with what is around it") from None
    try:
        envelope = parse_envelope(document)
    except EnvelopeError as error:
        fault = error
    else:
        if len(text.encode()) + len(_BEFORE) + len(_AFTER) > MAX_BODY_BYTES:
            raise _too_large(f"{MAX_BODY_BYTES} bytes as JSON, with what is around it")
        return Checked(text=text, envelope=envelope, task_id=str(uuid4()))
    # Not inside the handler: frames of its traceback hold the message.
    raise ProducerError(str(fault), field=fault.field)


def body_of(messages: Sequence[Checked]) -> str:
    """Return the body of a Celery message, `[args, kwargs, embed]`: of one envelope, or a list."""
    texts = ", ".join(message.text for message in messages)
    return f"{_BEFORE}{texts if len(messages) == 1 else f'[{texts}]'}{_AFTER}"


def in_lists(messages: Sequence[Checked], size: int) -> Iterator[Sequence[Checked]]:
    """Cut into lists that a worker takes, in order: within its limits of bytes, values and depth.

    Messages that count against those go alone.
    """
    first, weight = 0, 0
    for number, message in enumerate(messages):
        one = _weight(message.text)
        if number > first and (number - first == size or weight + one > _LIST_WEIGHT):
            yield messages[first:number]
            first, weight = number, 0
        weight += one
    yield messages[first:]


def _weight(text: str) -> int:
    """Return the characters; of what may be nested deeply, more than a list may have."""
    opened = text.count("{") + text.count("[")
    return len(text) if opened < MAX_DEPTH - DEPTH_AROUND else _LIST_WEIGHT


def no_driver() -> ProducerError:
    """Return the error of a client that shall use Postgres without its driver."""
    return ProducerError("database_url: install message-worker-client[sql]", field="database_url")


def _too_large(limit: str) -> ProducerError:
    return ProducerError(f"envelope: at most {limit}", field="envelope")


def headers(task_id: str) -> dict[str, Any]:
    """Make the headers of one message of Celery's protocol 2."""
    return {
        "lang": "py",
        "task": RECEIVE,
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
        "origin": "message-worker-client",
        "ignore_result": True,
        **_trace(),
    }


def _trace() -> dict[str, str]:
    """Return W3C's header if the caller is within a span of OpenTelemetry, which they imported."""
    current = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    # None also while another thread is still importing it.
    if current is None:
        return {}
    here = current().get_span_context()
    if not here.is_valid:
        return {}
    return {"traceparent": f"00-{here.trace_id:032x}-{here.span_id:016x}-{here.trace_flags:02x}"}


def _written(fields: dict[str, object]) -> tuple[str, dict[str, Any]]:
    """Return the JSON, and the document that a worker reads there: tuples have become lists."""
    try:
        text = json.dumps(fields, ensure_ascii=False, allow_nan=False, default=_plain)
        return text, json.loads(text)
    except (TypeError, ValueError, RecursionError):
        pass
    # Not inside the handler: the error's text may quote the value.
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
