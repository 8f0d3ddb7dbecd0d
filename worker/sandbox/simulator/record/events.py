"""What can happen at the simulator: the typed lines of its append-only log.

    received ──▶ (fault) ──▶ stored* ──▶ ended ──▶ sent | dropped      in most cases
    received ──▶ (fault) ──▶ dropped ──▶ stored* ──▶ ended             if a fault stores late

A request is known by the sequence number of its `RequestReceived`. It is at work at Telnyx from
there to its `ExecutionEnded`, after which it changes nothing any more.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from worker.sandbox.simulator.record.sms import Sms
from worker.sandbox.simulator.record.values import Conversation, Json, Message

Outcome: TypeAlias = Literal["delivered", "failed", "not_local", "overflow"]
"""Outcome of one attempt; the last two were never sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A process opened the log: whatever was at work before is over."""

    kind: Literal["started"] = "started"
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Steered:
    """A test or a person changed the simulator: faults, key, models, settings, scripts."""

    kind: Literal["steered"] = "steered"
    action: str
    detail: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestReceived:
    """A complete request, before anything was decided about it."""

    kind: Literal["request_received"] = "request_received"
    method: str
    path: str
    """As sent, with its query, percent-encoded."""
    endpoint: str
    conversation_id: str | None
    """From the path or the body; a string that may name nothing."""
    headers: dict[str, str]
    """Lower-case names; without `authorization`."""
    body_bytes: int
    body_digest: str
    """SHA-256 of the raw body, hex."""
    body: Any = None
    """The parsed body; None if there was none or it was not JSON."""

    @property
    def input_items(self) -> tuple[Json, ...]:
        """What a request for a response said, a bare string made an item."""
        said = self.body.get("input") if isinstance(self.body, dict) else None
        if isinstance(said, str):
            return ({"role": "user", "content": said},)
        return tuple(said) if isinstance(said, list) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSent:
    """A whole answer went to a connection that was open; whether it arrived, nobody knows."""

    kind: Literal["answer_sent"] = "answer_sent"
    request: int
    status: int
    body_bytes: int
    body_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerDropped:
    """No answer, or not the whole of one."""

    kind: Literal["answer_dropped"] = "answer_dropped"
    request: int
    reason: Literal["client_left", "fault", "shutdown"]
    status: int | None = None
    """The status that the answer would have had; None if there was none."""
    body_bytes: int = 0
    """How much of the body was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultChosen:
    """This request meets a fault."""

    kind: Literal["fault_chosen"] = "fault_chosen"
    request: int
    name: str
    source: Literal["header", "injected", "chance"]
    plan: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKept:
    """A successful answer was kept for replays of its key."""

    kind: Literal["idempotency_kept"] = "idempotency_kept"
    request: int
    scope: str
    """Method, path and key."""
    fingerprint: str
    kept_at: datetime
    status: int
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionEnded:
    """From here on the request changes nothing any more. Logged before its answer is written."""

    kind: Literal["execution_ended"] = "execution_ended"
    request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookAttempted:
    """An event was posted, or was not."""

    kind: Literal["webhook_attempted"] = "webhook_attempted"
    event_id: str
    event_type: str
    url: str | None
    attempt: int
    """From 1, counted on over both URLs; 0 = it was not even tried."""
    outcome: Outcome
    status: int | None
    """None: no answer in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOutChanged:
    """Somebody sent STOP or START, or Telnyx blocks them for another reason."""

    kind: Literal["opt_out_changed"] = "opt_out_changed"
    number: str
    opted_out: bool
    ours: str = ""
    """The number that they wrote to."""
    keyword: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsStored:
    """A text message was sent or received, or its status has changed: the last one counts."""

    kind: Literal["sms_stored"] = "sms_stored"
    request: int | None
    """None: it came from a phone."""
    sms: Sms


@dataclass(frozen=True, slots=True, kw_only=True)
class MailStored:
    """A mail was taken; it reaches nobody."""

    kind: Literal["mail_stored"] = "mail_stored"
    request: int
    id: str
    mail: Json
    """The request's body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationCreated:
    """A conversation was stored, whether or not the answer arrived."""

    kind: Literal["conversation_created"] = "conversation_created"
    request: int
    conversation: Conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationUpdated:
    """A conversation's metadata are these now."""

    kind: Literal["conversation_updated"] = "conversation_updated"
    request: int
    conversation_id: str
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationDeleted:
    """A conversation and its thread are gone."""

    kind: Literal["conversation_deleted"] = "conversation_deleted"
    request: int | None
    """None: a fault or the test did it."""
    conversation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStored:
    """A message was appended to a thread."""

    kind: Literal["message_stored"] = "message_stored"
    request: int | None
    """None: nobody's request, a foreign message."""
    conversation_id: str
    index: int
    """Its place in the thread, from 0."""
    message: Message
    prefix: str | None = None
    """Of an output: the hash of all messages before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageExtended:
    """A message was merged into one that already stood in the thread (a fault)."""

    kind: Literal["message_extended"] = "message_extended"
    request: int
    conversation_id: str
    index: int
    text: str
    """The whole text now."""


Event: TypeAlias = (
    Started
    | RequestReceived
    | FaultChosen
    | ConversationCreated
    | ConversationUpdated
    | ConversationDeleted
    | MessageStored
    | MessageExtended
    | IdempotencyKept
    | SmsStored
    | MailStored
    | OptOutChanged
    | WebhookAttempted
    | ExecutionEnded
    | AnswerSent
    | AnswerDropped
    | Steered
)
