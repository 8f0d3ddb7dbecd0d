"""The faults by name. Each is a plan: what is stored and when, what goes on the wire, what it says.

    storing      nothing | input | whole | later | after_client_left
    wire         itself | refusal | hang | trickle | cut | truncated | empty | drop | reset
    ─────────────────────────────────────────────────────────────────────────────────────
    429          nothing stored, a refusal            stored_then_429   whole stored, a refusal
    dropped      nothing stored, no answer            stored_late       later stored, no answer

Any part of a plan can be given another value where the fault is ordered: `cut; storing=nothing`.
"""

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter


class Endpoint(StrEnum):
    """What a request asks for."""

    CREATE = "create"
    LIST = "list"
    RETRIEVE = "retrieve"
    UPDATE = "update"
    DELETE = "delete"
    MESSAGES = "messages"
    ADD_MESSAGE = "add_message"
    RESPONSES = "responses"
    MODELS = "models"
    INSIGHTS = "insights"
    SEND = "send"
    """Of a text message, POST /messages, or of a mail, POST /email_messages."""
    SENT = "sent"
    """GET /messages/{id}."""
    PUBLIC_KEY = "public_key"
    OPT_OUTS = "opt_outs"
    PROFILES = "profiles"
    """Messaging profiles, their numbers and keywords, and the numbers' campaigns."""
    UNKNOWN = "unknown"
    ANY = "any"
    """Only in a match: whichever it is."""


class Storing(StrEnum):
    """What a request leaves behind, and when."""

    NOTHING = "nothing"
    INPUT = "input"
    """The user's item and never an output."""
    WHOLE = "whole"
    LATER = "later"
    """The whole, `after_s` after the client got what it got."""
    AFTER_CLIENT_LEFT = "after_client_left"
    """The whole, `after_s` after the client closed its connection."""


class Wire(StrEnum):
    """What the client gets to see."""

    ITSELF = "itself"
    REFUSAL = "refusal"
    HANG = "hang"
    """Not a byte until the client leaves."""
    TRICKLE = "trickle"
    """One byte of the body every `interval_s`; of a stream, one event."""
    CUT = "cut"
    """Half of the body, then the connection is dropped."""
    TRUNCATED = "truncated"
    """Half of the body as if it were all of it: JSON that does not parse."""
    EMPTY = "empty"
    DROP = "drop"
    """The connection is closed without an answer."""
    RESET = "reset"
    """The same with a TCP reset."""


class Body(StrEnum):
    """What a refusal's body is."""

    JSON = "json"
    HTML = "html"
    EMPTY = "empty"


class Output(StrEnum):
    """What the model comes up with."""

    NORMAL = "normal"
    NO_MESSAGE = "no_message"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    REFUSAL = "refusal"
    THINK = "think"
    """Thoughts in the text, in `<think>` tags before the answer."""
    THINK_UNCLOSED = "think_unclosed"
    THINK_STRAY = "think_stray"
    """The same with the closing tag alone, as when a template opens the thoughts."""
    TOOL_MARKUP = "tool_markup"
    """A call of a tool, written as text."""
    INVISIBLE = "invisible"
    """A text without a visible character."""


class Disturbance(StrEnum):
    """What happens to the conversation meanwhile."""

    NONE = "none"
    DELETED = "deleted"
    FOREIGN_BEFORE = "foreign_before"
    """Somebody else's message comes just before the input."""
    FOREIGN_AFTER = "foreign_after"
    """... just after the output."""


class Items(StrEnum):
    """How input items become messages."""

    AS_SENT = "as_sent"
    SPLIT = "split"
    """Each text in two messages."""
    MERGED = "merged"
    """All texts in one, and that one into a user message that stands last."""


class Stream(StrEnum):
    """How a streamed answer goes on."""

    NORMAL = "normal"
    CUT = "cut"
    NO_TERMINAL = "no_terminal"
    ERROR = "error"
    ERROR_OBJECT = "error_object"
    """An event without a name or a type: `{"error": {...}}`."""
    FAILED = "failed"
    INCOMPLETE = "incomplete"
    JSON = "json"
    """A JSON answer although a stream was asked for."""
    KEEPALIVE = "keepalive"
    """Comments for a while before the first text, as from a model that thinks for long."""


class Posting(StrEnum):
    """What becomes of the events of a sent text message."""

    AS_SET = "as_set"
    """As the settings want it."""
    LOST = "lost"
    TWICE = "twice"
    REVERSED = "reversed"
    """`message.finalized` before `message.sent`."""
    FORGED = "forged"
    """Signed by somebody else."""
    FIRST = "first"
    """All of them before the answer to the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens to one request. The default is what happens without a fault."""

    endpoint: Endpoint = Endpoint.RESPONSES
    """Which requests it hits when nobody says which."""
    storing: Storing = Storing.WHOLE
    wire: Wire = Wire.ITSELF
    status: int = 200
    """Of a refusal."""
    body: Body = Body.JSON
    code: str | None = None
    """Telnyx's error code in a refusal; None = the usual one of the status."""
    detail: str = "The simulator was told to say no."
    """What a refusal says in prose."""
    retry_after_s: float | None = None
    reset_s: float | None = None
    """`x-ratelimit-reset`; None = no `x-ratelimit-*` headers."""
    after_s: float = 1.0
    interval_s: float = 1.0
    output: Output = Output.NORMAL
    disturbance: Disturbance = Disturbance.NONE
    items: Items = Items.AS_SENT
    stream: Stream = Stream.NORMAL
    foreign_text: str = "a message that nobody here sent"
    foreign_role: str = "user"
    posting: Posting = Posting.AS_SET
    final_status: str = "delivered"
    """Of a sent text message."""
    final_code: str | None = None
    """Telnyx's error code in `message.finalized`."""
    stale_s: float = 0.0
    """A listing of messages omits those younger than this."""
    hidden_s: float = 0.0
    """A listing of conversations omits those younger than this."""


def _refusals() -> dict[str, Plan]:
    refused = Plan(storing=Storing.NOTHING, wire=Wire.REFUSAL)
    numbers = (400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 503)
    plain = {str(number): replace(refused, status=number) for number in numbers}
    return {
        **plain,
        "429_retry_after": replace(plain["429"], retry_after_s=1.0),
        "429_reset": replace(plain["429"], reset_s=1.0),
        "502_html": replace(refused, status=502, body=Body.HTML),
        "503_empty": replace(refused, status=503, body=Body.EMPTY),
        "504_html": replace(refused, status=504, body=Body.HTML),
    }


def _stored_then_refused() -> dict[str, Plan]:
    return {
        f"stored_then_{name}": replace(plan, storing=Storing.WHOLE)
        for name, plan in _refusals().items()
    }


FAULTS: dict[str, Plan] = {
    **_refusals(),
    **_stored_then_refused(),
    "hang": Plan(storing=Storing.NOTHING, wire=Wire.HANG),
    "dropped": Plan(storing=Storing.NOTHING, wire=Wire.DROP),
    "reset": Plan(storing=Storing.NOTHING, wire=Wire.RESET),
    "stored_then_hang": Plan(wire=Wire.HANG),
    "stored_then_dropped": Plan(wire=Wire.DROP),
    "stored_then_reset": Plan(wire=Wire.RESET),
    "input_then_hang": Plan(storing=Storing.INPUT, wire=Wire.HANG),
    "input_then_dropped": Plan(storing=Storing.INPUT, wire=Wire.DROP),
    "stored_late": Plan(storing=Storing.LATER, wire=Wire.DROP),
    "late_execution": Plan(storing=Storing.AFTER_CLIENT_LEFT, wire=Wire.HANG),
    "trickle": Plan(wire=Wire.TRICKLE),
    "cut": Plan(wire=Wire.CUT),
    "truncated": Plan(wire=Wire.TRUNCATED),
    "empty": Plan(wire=Wire.EMPTY),
    "no_message": Plan(output=Output.NO_MESSAGE),
    "incomplete": Plan(output=Output.INCOMPLETE),
    "failed": Plan(output=Output.FAILED),
    "refusal": Plan(output=Output.REFUSAL),
    "think": Plan(output=Output.THINK),
    "think_unclosed": Plan(output=Output.THINK_UNCLOSED),
    "think_stray": Plan(output=Output.THINK_STRAY),
    "tool_markup": Plan(output=Output.TOOL_MARKUP),
    "invisible": Plan(output=Output.INVISIBLE),
    "conversation_deleted": Plan(disturbance=Disturbance.DELETED),
    "foreign_message": Plan(disturbance=Disturbance.FOREIGN_BEFORE),
    "foreign_message_after": Plan(disturbance=Disturbance.FOREIGN_AFTER),
    "split_items": Plan(items=Items.SPLIT),
    "merged_items": Plan(items=Items.MERGED),
    "creation_lost": Plan(endpoint=Endpoint.CREATE, wire=Wire.DROP),
    "stale_reads": Plan(endpoint=Endpoint.MESSAGES, stale_s=5.0),
    "late_listing": Plan(endpoint=Endpoint.LIST, hidden_s=3600.0),
    "stream_cut": Plan(stream=Stream.CUT),
    "stream_no_terminal": Plan(stream=Stream.NO_TERMINAL),
    "stream_error": Plan(stream=Stream.ERROR),
    "stream_error_object": Plan(stream=Stream.ERROR_OBJECT),
    "stream_failed": Plan(stream=Stream.FAILED),
    "stream_incomplete": Plan(stream=Stream.INCOMPLETE),
    "stream_json": Plan(stream=Stream.JSON),
    "stream_keepalive": Plan(stream=Stream.KEEPALIVE, wire=Wire.TRICKLE, interval_s=0.1),
    "send_lost": Plan(endpoint=Endpoint.SEND, wire=Wire.DROP),
    "queue_full": Plan(
        endpoint=Endpoint.SEND,
        storing=Storing.NOTHING,
        wire=Wire.REFUSAL,
        status=429,
        code="40318",
    ),
    "undelivered": Plan(endpoint=Endpoint.SEND, final_status="delivery_failed", final_code="40008"),
    "events_lost": Plan(endpoint=Endpoint.SEND, posting=Posting.LOST),
    "events_twice": Plan(endpoint=Endpoint.SEND, posting=Posting.TWICE),
    "events_reversed": Plan(endpoint=Endpoint.SEND, posting=Posting.REVERSED),
    "spend_limit": Plan(
        endpoint=Endpoint.SEND,
        storing=Storing.NOTHING,
        wire=Wire.REFUSAL,
        status=429,
        code="40333",
    ),
    "events_first": Plan(endpoint=Endpoint.SEND, posting=Posting.FIRST),
    "events_forged": Plan(endpoint=Endpoint.SEND, posting=Posting.FORGED),
}
"""By name. One that names no endpoint of its own in `Plan` is for responses."""

_ADAPTER = TypeAdapter(Plan)


def plan_of(fault: str, changes: dict[str, Any]) -> Plan:
    """Return the plan of a named fault with changes; ValueError where either makes no sense."""
    if fault not in FAULTS:
        raise ValueError(f"no such fault: {fault}")
    known = {each.name: getattr(FAULTS[fault], each.name) for each in fields(Plan)}
    if unknown := changes.keys() - known.keys():
        raise ValueError(f"no such part of a plan: {', '.join(sorted(unknown))}")
    return _ADAPTER.validate_python({**known, **changes})


def plan_detail(plan: Plan) -> dict[str, Any]:
    """Return what of a plan differs from the plan without a fault, for the log."""
    usual = Plan()
    parts = {each.name: getattr(plan, each.name) for each in fields(Plan)}
    return {name: value for name, value in parts.items() if value != getattr(usual, name)}
