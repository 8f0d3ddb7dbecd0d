"""A text message, sent or received, and the events about it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias
from uuid import uuid4

from worker.sandbox.simulator.record.values import Json, timestamp

PROFILE_ID = "740572b6-099c-44a1-89b9-6c92163bc68d"
"""Of the one messaging profile there is."""
ORGANIZATION_ID = "47a530f8-4362-4526-829b-bcee17fd9f7a"

Signing: TypeAlias = Literal["good", "forged", "old"]
"""Of an event: as it should be, by somebody else's key, or with a time of an hour ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sms:
    """One text message. Frozen: a change of its status is another value."""

    id: str
    direction: Literal["outbound", "inbound"]
    sender: str
    recipient: str
    text: str
    media: tuple[str, ...] = ()
    encoding: str = "GSM-7"
    parts: int = 1
    status: str
    """Of its one recipient, in Telnyx's words."""
    code: str | None = None
    """Telnyx's error code of a delivery that failed."""
    received_at: datetime
    sent_at: datetime | None = None
    completed_at: datetime | None = None
    webhook_url: str | None = None
    webhook_failover_url: str | None = None
    autoresponse_type: str | None = None
    whatsapp: bool = False
    cc: tuple[str, ...] = ()
    """The others of a group."""

    def listed(self) -> Json:
        """As Telnyx shows it."""
        shown: Json = {
            "record_type": "message",
            "direction": self.direction,
            "id": self.id,
            "type": "WHATSAPP" if self.whatsapp else "MMS" if self.media or self.cc else "SMS",
            "messaging_profile_id": PROFILE_ID,
            "organization_id": ORGANIZATION_ID,
            "from": {"phone_number": self.sender, "carrier": "", "line_type": ""},
            "to": [
                {
                    "phone_number": self.recipient,
                    "status": self.status,
                    "carrier": "",
                    "line_type": "",
                }
            ],
            "cc": list(self.cc),
            "text": self.text,
            "media": [_medium(url) for url in self.media],
            "parts": self.parts,
            "encoding": self.encoding,
            "cost": {"amount": "0.0040", "currency": "USD"},
            "tags": [],
            "errors": [self._error()] if self.code else [],
            "webhook_url": self.webhook_url,
            "webhook_failover_url": self.webhook_failover_url,
            "received_at": self._moment(self.received_at),
            "sent_at": self._moment(self.sent_at),
            "completed_at": self._moment(self.completed_at),
            "valid_until": None,
        }
        if self.autoresponse_type is not None:
            shown["autoresponse_type"] = self.autoresponse_type
        if self.whatsapp and self.direction == "inbound":
            shown["to"] = self.recipient
            shown["text"] = None
            shown["body"] = {
                "type": "text",
                "text": {"body": self.text},
                "id": self.id,
                "from": self.sender,
                "timestamp": str(int(self.received_at.timestamp())),
            }
        return shown

    def _error(self) -> Json:
        source = {"pointer": "/to/0/phone_number"}
        return {"code": self.code, "title": "Not delivered", "detail": "", "source": source}

    def _moment(self, moment: datetime | None) -> str | None:
        if moment is None:
            return None
        # The two are documented with different endings.
        if self.direction == "inbound":
            return moment.isoformat(timespec="milliseconds")
        return timestamp(moment, 3)


def event_of(kind: str, sms: Sms) -> Json:
    """Return the `data` of an event; its id stays the same however often it is delivered."""
    return {
        "event_type": kind,
        "id": str(uuid4()),
        "occurred_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "record_type": "event",
        "payload": sms.listed(),
    }


def _medium(url: str) -> dict[str, Any]:
    return {"url": url, "content_type": "image/png", "sha256": None, "size": 1}
