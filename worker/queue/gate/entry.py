"""Parses an entry of a task queue without trusting a byte of it.

On Redis a Celery producer LPUSHes one JSON object, kombu's wrapper around a message of protocol 2:

    {"body": base64 of [args, kwargs, embed], "content-type": "application/json",
     "headers": {"task": …, "id": …, …},
     "properties": {"delivery_tag": …, "delivery_info": {…}, "body_encoding": "base64", …}}

AMQP deliveries are put into the same wrapper, see `amqp_transport`.

`Entry.parse` takes any bytes and returns an `Entry` or raises `EntryRefusedError`, nothing else.
The error holds fixed words and numbers, never a piece of the entry: it is logged and shown.
"""

import base64
import hashlib
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Self

from message_worker_client.envelope.strict_json import JsonRefusedError, read_json
from message_worker_client.envelope.wire import HEAD_BYTES, MAX_ENTRY_BYTES, cut_to_head
from worker.domain.errors import PermanentError
from worker.domain.messages import UNKNOWN_SENDER, Sender
from worker.domain.reasons import DeadLetterReason as Reason
from worker.queue.gate.headers import TAIL_BYTES, headers_at_the_end, kept, sender_named_by
from worker.queue.unwrap import layers, uuid_of

_UTF8_NAMES: Final = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii", "binary"})
"""Values of `content-encoding` under which JSON is UTF-8; some clients call all bytes "binary"."""
_OVERHEAD_BYTES: Final = 64 * 1024
"""Room for headers and properties beside a body of the permitted size."""


class EntryRefusedError(PermanentError):
    """The entry can never become a task. `detail` adds to `reason`, in fixed words."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One well-formed task message. Canvas and most headers are dropped."""

    task: str
    task_id: str
    """A UUID. Any other id is replaced by a UUID derived from it: ids are logged, and a producer's
    own may contain an address."""
    links: dict[str, str] = field(default_factory=dict)
    """Headers that Celery or we read, see `headers`, if they have the form of such a header."""
    args: list[Any]
    kwargs: dict[str, Any] = field(default_factory=dict)
    body: bytes
    """`[args, kwargs, embed]`, exactly as it arrived."""
    body_text: str
    """The same as text of the entry, in `body_encoding`."""
    body_encoding: str = "utf-8"
    redelivered: bool = False
    ignored: tuple[str, ...] = ()
    """What the producer asked of Celery and does not get."""

    @classmethod
    def parse(cls, raw: bytes, *, max_body_bytes: int) -> Self:
        """Read one entry of the list. Raises `EntryRefusedError`."""
        entry, body, payload = read_message(raw, max_body_bytes=max_body_bytes)
        headers, task, task_id = _names(entry.get("headers"), payload)
        args, kwargs = _arguments(payload)
        links, ignored = kept(headers, payload[2] or {})
        return cls(
            task=task,
            task_id=uuid_of(task_id),
            links=links,
            args=args,
            kwargs=kwargs,
            body=body,
            body_text=entry["body"],
            body_encoding=entry["properties"].get("body_encoding") or "utf-8",
            redelivered=headers.get("redelivered") is True,
            ignored=tuple(ignored),
        )


def sender_in(raw: bytes) -> Sender:
    """Return what the headers of an entry say about its sender, however broken the rest is."""
    if isinstance(raw, Oversized):
        return sender_named_by(headers_at_the_end(raw.tail))
    for _, document in islice(layers(raw), 2):
        match document:
            case {"headers": {"id": _} as headers}:
                return sender_named_by(headers)
            case {"task": str(), "id": _}:
                # In Celery's message protocol 1, the body has what are headers today.
                return sender_named_by(document)
    return UNKNOWN_SENDER


def read_message(raw: bytes, *, max_body_bytes: int) -> tuple[dict[str, Any], bytes, Any]:
    """Return the wrapper, the body in it and the content of the body.

    Raises `EntryRefusedError`.
    """
    if isinstance(raw, Oversized) or len(raw) > max_body_bytes * 4 // 3 + _OVERHEAD_BYTES:
        raise EntryRefusedError(Reason.TOO_LARGE, f"entry of {len(raw)} bytes")
    entry = _decoded(raw, not_text=Reason.NOT_JSON, not_json=Reason.NOT_JSON)
    if not isinstance(entry, dict):
        raise EntryRefusedError(Reason.NOT_AN_OBJECT, "the entry is not a JSON object")
    properties = _properties(entry)
    _check_labels(entry, entry.get("headers"))
    body = _body(entry, properties)
    if len(body) > max_body_bytes:
        raise EntryRefusedError(Reason.TOO_LARGE, f"body of {len(body)} bytes")
    content = _decoded(body, not_text=Reason.BODY_ENCODING, not_json=Reason.BODY_NOT_JSON)
    return entry, body, content


def _decoded(data: bytes, *, not_text: Reason, not_json: Reason) -> Any:  # noqa: ANN401 - JSON
    try:
        return read_json(data)
    except JsonRefusedError as error:
        reasons = _FAULTS | {"not_text": not_text, "not_json": not_json}
        raise EntryRefusedError(reasons[error.fault], str(error)) from None


_FAULTS: Final = {
    "too_deep": Reason.TOO_DEEP,
    "too_large": Reason.TOO_LARGE,
    "not_storable": Reason.NOT_STORABLE,
}


def _properties(entry: dict[str, Any]) -> dict[str, Any]:
    properties = entry.get("properties")
    if not isinstance(properties, dict):
        raise EntryRefusedError(Reason.NO_PROPERTIES, "no object `properties`")
    tag = properties.get("delivery_tag")
    if not isinstance(tag, str | int) or tag == "":
        raise EntryRefusedError(Reason.NO_PROPERTIES, "no `properties.delivery_tag`")
    if not isinstance(properties.get("delivery_info"), dict):
        raise EntryRefusedError(Reason.NO_PROPERTIES, "no object `properties.delivery_info`")
    return properties


def _check_labels(entry: dict[str, Any], headers: object) -> None:
    """Decide from the labels alone: anything but plain JSON is not even unpacked."""
    if isinstance(headers, dict) and headers.get("compression"):
        raise EntryRefusedError(Reason.COMPRESSED, "header `compression`")
    media = entry.get("content-type")
    if not isinstance(media, str) or media.split(";")[0].strip().lower() != "application/json":
        raise EntryRefusedError(Reason.CONTENT_TYPE, "`content-type` is not application/json")
    encoding = entry.get("content-encoding") or ""
    if not isinstance(encoding, str) or encoding.lower() not in _UTF8_NAMES:
        raise EntryRefusedError(Reason.CONTENT_TYPE, "`content-encoding` is not UTF-8")


def _body(entry: dict[str, Any], properties: dict[str, Any]) -> bytes:
    text = entry.get("body")
    if not isinstance(text, str):
        raise EntryRefusedError(Reason.BODY_ENCODING, "`body` is not a string")
    match properties.get("body_encoding"):
        case "base64":
            try:
                # MIME encoders insert line breaks, which `validate=True` would refuse.
                return base64.b64decode("".join(text.split()), validate=True)
            except ValueError:
                raise EntryRefusedError(Reason.BODY_ENCODING, "broken base64") from None
        case None | "" | "utf-8" | "UTF-8":
            # Cannot fail: an entry with lone surrogates was refused before.
            return text.encode()
        case _:
            raise EntryRefusedError(Reason.BODY_ENCODING, "unknown `body_encoding`")


def _names(headers: object, payload: object) -> tuple[dict[str, Any], str, str]:
    fields = headers if isinstance(headers, dict) else {}
    task, task_id = fields.get("task"), fields.get("id")
    if task is None and isinstance(payload, dict) and "task" in payload:
        raise EntryRefusedError(Reason.PROTOCOL_1, "the task's name is in the body")
    if not isinstance(task, str) or not task:
        raise EntryRefusedError(Reason.BAD_HEADERS, "no header `task`")
    if not isinstance(task_id, str) or not task_id:
        raise EntryRefusedError(Reason.BAD_HEADERS, "no header `id`")
    return fields, task, task_id


def _arguments(payload: object) -> tuple[list[Any], dict[str, Any]]:
    match payload:
        case [list() as args, dict() as kwargs, dict() | None]:
            return args, kwargs
        case [_, _, dict() | None]:
            raise EntryRefusedError(Reason.BAD_ARGUMENTS, "args is no list or kwargs no object")
        case _:
            raise EntryRefusedError(Reason.BODY_NOT_TRIPLE, "not [args, kwargs, embed]")


class Oversized(bytes):
    """The first bytes of something that was never read whole: see `redis_reader`."""

    size: int
    """Of the whole, as `sha256` is."""
    sha256: str
    tail: bytes
    """The last bytes, where Celery writes the headers."""

    @classmethod
    def of(cls, head: bytes, *, size: int, sha256: str, tail: bytes = b"") -> Self:
        """Make one."""
        made = cls(head)
        made.size, made.sha256, made.tail = size, sha256, tail
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedEntry:
    """The bytes and the reason. `detail` is in fixed words; `queue` is the one it came from."""

    raw: bytes = field(repr=False)
    reason: Reason
    detail: str
    queue: str
    sender: Sender = UNKNOWN_SENDER

    @classmethod
    def of(cls, raw: bytes, *, reason: Reason, detail: str, queue: str) -> Self:
        """Keep all bytes, or the first of more than `MAX_ENTRY_BYTES`, with length and hash."""
        if not isinstance(raw, Oversized) and len(raw) > MAX_ENTRY_BYTES:
            head, tail = raw[:HEAD_BYTES], raw[-TAIL_BYTES:]
            digest = hashlib.sha256(raw).hexdigest()
            raw = Oversized.of(head, size=len(raw), sha256=digest, tail=tail)
        if isinstance(raw, Oversized):
            detail = cut_to_head(raw.size, raw.sha256)
        sender = sender_in(raw)
        return cls(raw=bytes(raw), reason=reason, detail=detail, queue=queue, sender=sender)

    def as_args(self) -> list[str]:
        """Return JSON values that keep any bytes intact."""
        # Entries of earlier releases may still be queued or unacked: the order and the form of
        # these four must not change.
        return [base64.b64encode(self.raw).decode(), self.reason.value, self.detail, self.queue]

    @classmethod
    def from_args(cls, args: list[Any]) -> Self:
        """Read the form of `as_args`. Raises ValueError otherwise: strangers may call the task."""
        match args:
            case [str() as raw, str() as reason, str() as detail, str() as queue]:
                content = base64.b64decode(raw, validate=True)
                return cls(
                    raw=content,
                    reason=Reason(reason),
                    detail=detail,
                    queue=queue,
                    sender=sender_in(content),
                )
            case _:
                raise ValueError("not the arguments of dead_letters.keep")
