"""Headers of a queue entry: which of them we keep, and under which names."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from message_worker_client.envelope import TIME
from message_worker_client.envelope.storable import is_storable
from worker.domain.messages import Sender
from worker.observability.traces import TRACEPARENT
from worker.queue.unwrap import UUID_FORM, uuid_of

_NAME: Final = re.compile(r"[\w.@:-]{1,255}", re.ASCII)
_LINKS: Final = {
    "root_id": UUID_FORM,
    "parent_id": UUID_FORM,
    "traceparent": TRACEPARENT,
    "origin": _NAME,
    "lang": _NAME,
}
_TIMES: Final = {"not_before": ("not_before", "eta"), "expires_at": ("expires_at", "expires")}
"""Headers of ours, and Celery's that become them: it would hold an entry with `eta` in memory until
the broker delivers it again, and discard one past `expires` without a trace."""
_CANVAS: Final = {
    "callbacks": "link",
    "errbacks": "link_error",
    "chain": "chain",
    "chord": "chord",
}
"""Celery's key in `embed` -> the producer's word for it. No task of ours calls another one."""
SENDER_HEADERS: Final = ("task", "origin", "lang", "traceparent")
"""Headers that a dead letter keeps."""
TAIL_BYTES: Final = 4096
"""How many of the last bytes of a large entry are searched for its headers."""
_OF_SENDER: Final = {name: _LINKS.get(name, _NAME) for name in SENDER_HEADERS}


def kept(headers: Mapping[str, Any], embed: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Return the headers to keep, and what the producer asked of Celery and does not get."""
    times, ignored = _times(headers)
    ignored += [word for key, word in _CANVAS.items() if embed.get(key)]
    return _fitting(headers, _LINKS) | times, ignored


def sender_named_by(headers: Mapping[str, Any]) -> Sender:
    """Return what headers of any form say about the program that sent the entry."""
    given = headers.get("id")
    task_id = uuid_of(given) if isinstance(given, str) and given and is_storable(given) else None
    return Sender(task_id=task_id, headers=_fitting(headers, _OF_SENDER))


def headers_at_the_end(tail: bytes) -> dict[str, Any]:
    """Return the headers of an entry of which only the last bytes are known; {} = not found."""
    _, found, text = tail.decode(errors="replace").rpartition('"headers": ')
    try:
        headers, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return {}
    return headers if found and isinstance(headers, dict) else {}


def _fitting(headers: Mapping[str, Any], forms: Mapping[str, re.Pattern[str]]) -> dict[str, str]:
    return {
        name: value
        for name, form in forms.items()
        if isinstance(value := headers.get(name), str) and form.fullmatch(value)
    }


def _times(headers: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Return `eta` and `expires` under our names, and which of them is no time."""
    times, ignored = {}, []
    for ours, names in _TIMES.items():
        for name in names:
            if (text := _time(headers.get(name))) is not None:
                times[ours] = text
            elif headers.get(name) is not None:
                ignored.append(name)
    return times, ignored


def _time(given: object) -> str | None:
    if isinstance(given, str):
        # Celery: a time without an offset is UTC.
        for text in (given, f"{given}Z"):
            if TIME.fullmatch(text):
                # A day that the calendar does not have.
                with suppress(ValueError):
                    return datetime.fromisoformat(text).isoformat()
    return None
