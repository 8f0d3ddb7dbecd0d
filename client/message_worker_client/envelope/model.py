"""The envelope, version 1: the one definition, for workers and for producers.

Values are checked here and kept whole: unknown fields stay in the stored envelope. They are often
typos, and an operator wants to see them.

It imports nothing of the service: the client checks with it too, without the service installed.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from message_worker_client.envelope.storable import is_storable
from message_worker_client.envelope.strict_json import JsonRefusedError, read_json
from message_worker_client.envelope.wire import (
    DEPTH_AROUND,
    MAX_ATTACHMENTS,
    MAX_BODY_BYTES,
    MAX_DEPTH,
    MAX_TEXT_BYTES,
    MAX_VALUES,
)

VERSION: Final = 1
MAX_METADATA_BYTES: Final = 1024
MAX_KEY_BYTES: Final = 2048
"""Of `message_id`, and of `user`, `recipient` and `thread` together, after NFC: a row of a unique
index in Postgres has at most 2,704 bytes, and the lower case of a domain may be longer."""
TIME: Final = re.compile(
    r"^(?!9999)[1-9][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
"""RFC 3339 without leap seconds. Years 1000 to 9998: in every time zone both Postgres and Python
hold them; a time that only one of them can read would wedge a person for good."""


class EnvelopeError(Exception):
    """Not a valid envelope. `str()` names the field and the fix, never its value."""

    def __init__(self, reason: str, field: str, fix: str) -> None:
        super().__init__(f"{field}: {fix}")
        self.reason = reason
        """A slug of `dead_letters.reason`."""
        self.field = field
        """The field at fault, or "envelope"."""
        self.fix = fix


Time = Annotated[
    AwareDatetime,
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": TIME.pattern}),
]


def _small(value: str) -> str:
    if _size(value) > MAX_METADATA_BYTES:
        raise ValueError(f"at most {MAX_METADATA_BYTES} bytes of UTF-8")
    return value


class EnvelopeAttachment(BaseModel):
    """Something sent along: by `url`, or as base64 in `data`."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "oneOf": [
                {"required": [given], "properties": {given: {"type": "string"}}}
                for given in ("url", "data")
            ]
        },
    )

    content_type: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    url: Annotated[str, StringConstraints(pattern=r"^https?://", max_length=8192)] | None = None
    data: str | None = None
    name: Annotated[str, StringConstraints(max_length=255)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.url is None) == (self.data is None):
            raise ValueError("give either url or data")
        return self


class Envelope(BaseModel):
    """One inbound message. Addresses are compared byte for byte after NFC."""

    model_config = ConfigDict(
        extra="allow",
        str_strip_whitespace=False,
        json_schema_extra={
            "anyOf": [
                {"properties": {"text": {"minLength": 1}}},
                {"required": ["attachments"], "properties": {"attachments": {"minItems": 1}}},
            ]
        },
    )

    version: Literal[1]
    channel: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")]
    user: Annotated[str, StringConstraints(min_length=1, max_length=320)]
    message_id: Annotated[str, StringConstraints(min_length=1, max_length=998)]
    text: str
    recipient: Annotated[str, StringConstraints(max_length=320)] = ""
    thread: Annotated[str, StringConstraints(max_length=255)] = ""
    agent: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    sent_at: Time | None = None
    expires_at: Time | None = None
    not_before: Time | None = None
    signals: list[Annotated[str, StringConstraints(max_length=64)]] = Field(
        default_factory=list, max_length=16
    )
    attachments: list[EnvelopeAttachment] = Field(default_factory=list, max_length=MAX_ATTACHMENTS)
    reply_to: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    metadata: dict[str, Annotated[str, AfterValidator(_small)]] = Field(
        default_factory=dict, max_length=16
    )

    @field_validator("user", "recipient", "thread", "message_id", mode="after")
    @classmethod
    def _composed(cls, value: str) -> str:
        return unicodedata.normalize("NFC", value)

    @field_validator("message_id")
    @classmethod
    def _fits_an_index(cls, value: str) -> str:
        if _size(value) > MAX_KEY_BYTES:
            raise ValueError(f"at most {MAX_KEY_BYTES} bytes of UTF-8")
        return value

    @field_validator("sent_at", "expires_at", "not_before", mode="before")
    @classmethod
    def _is_a_time(cls, value: object) -> object:
        match value:
            case datetime():
                text: object = value.isoformat()
            # An aware datetime as Celery's JSON writes it.
            case {"__type__": "datetime", "__value__": written}:
                text = written
            case _:
                text = value
        # `fromisoformat` raises for a day that the calendar does not have.
        with suppress(ValueError):
            if text is None or (
                isinstance(text, str) and TIME.fullmatch(text) and date.fromisoformat(text[:10])
            ):
                return text
        raise ValueError(
            "give RFC 3339 with an offset, such as 2026-11-22T20:15:00Z, in the years 1000 to 9998"
        )

    @field_validator("text")
    @classmethod
    def _short_enough(cls, value: str) -> str:
        if _size(value) > MAX_TEXT_BYTES:
            raise ValueError(f"at most {MAX_TEXT_BYTES} bytes of UTF-8")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.text and not self.attachments:
            raise ValueError("text may be empty only with attachments")
        if _size(self.user + self.recipient + self.thread) > MAX_KEY_BYTES:
            raise ValueError(
                f"user, recipient and thread together: at most {MAX_KEY_BYTES} bytes of UTF-8"
            )
        return self

    def as_json(self) -> str:
        """Return the document that is stored and compared: all fields that were set.

        Unknown fields are part of it.
        """
        return self.model_dump_json(exclude_unset=True)


def read_envelope(raw: bytes) -> object:
    """Read the JSON of an envelope that comes without a body around it. Raises `EnvelopeError`."""
    try:
        return read_json(raw, max_bytes=MAX_BODY_BYTES, max_depth=MAX_DEPTH - DEPTH_AROUND)
    except JsonRefusedError as error:
        fault = error.fault
    match fault:
        case "too_deep":
            fix = "too many brackets inside each other"
        case "too_large":
            fix = f"at most {MAX_BODY_BYTES} bytes, and {MAX_VALUES} values"
        case "not_storable":
            fix = _NOT_STORABLE
        case _:
            fault, fix = "body_not_json", "give JSON in UTF-8"
    raise EnvelopeError(fault, "envelope", fix)


_NOT_STORABLE: Final = "a text holds a NUL or half of a surrogate pair"


def parse_envelope(document: object) -> Envelope:
    """Check an envelope. Raises `EnvelopeError`."""
    if not isinstance(document, Mapping):
        raise EnvelopeError("envelope_invalid", "envelope", "give an object")
    version = document.get("version", VERSION)
    # `is True`: for Python, true equals 1.
    if version is True or version != VERSION:
        raise EnvelopeError("envelope_version", "version", f"this service reads {VERSION}")
    if not is_storable(document):
        raise EnvelopeError("not_storable", "envelope", _NOT_STORABLE)
    try:
        return Envelope.model_validate(document)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    # Not inside the handler: pydantic's error quotes the input.
    field = ".".join(str(part) for part in _shown(fault["loc"])) or "envelope"
    fix = _key_at(fault["loc"], document) + fault["msg"].removeprefix("Value error, ")
    raise EnvelopeError("envelope_invalid", field, fix)


def _shown(place: tuple[int | str, ...]) -> Iterator[int | str]:
    """Return the names on the way to a fault, but no key that a producer made up.

    Positions in a list count from 0.
    """
    for at, part in enumerate(place):
        inside = place[0] == "attachments" and part in EnvelopeAttachment.model_fields
        if at == 0 or isinstance(part, int) or inside:
            yield part


_KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
"""A key of `metadata` that looks like a name in a program. Others may be what somebody wrote."""


def _key_at(place: tuple[int | str, ...], document: Mapping[str, Any]) -> str:
    """Return the key of `metadata` at fault, or its position from 1; empty for other faults."""
    match place:
        case ("metadata", str() as key, *_):
            position = list(document["metadata"]).index(key) + 1
            return f"{key}: " if _KEY.fullmatch(key) else f"value {position}: "
        case _:
            return ""


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def schema() -> dict[str, Any]:
    """Return the envelope's JSON Schema (draft 2020-12).

    docs/reference/envelope.md lists the rules that a schema cannot express.
    """
    made = Envelope.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": _SCHEMA_ID, **made}


_SCHEMA_ID: Final = f"urn:worker:envelope:{VERSION}"
