"""Telnyx's messaging webhooks, as its pages and its SDK show them, and their signature."""

import base64
import json
import time
from itertools import count
from typing import Any

from nacl.signing import SigningKey

KEY = SigningKey(bytes(32))
PUBLIC_KEY = base64.b64encode(KEY.verify_key.encode()).decode()
PERSON, OURS = "+13125550001", "+17735550002"
_numbers = count(1)


def event(kind: str, payload: object) -> dict[str, Any]:
    """Return the document of a webhook, with an event id of its own."""
    data = {
        "event_type": kind,
        "id": f"b301ed3f-1490-491f-995f-{next(_numbers):012x}",
        "occurred_at": "2026-10-21T20:16:07.588+00:00",
        "record_type": "event",
        "payload": payload,
    }
    meta = {"attempt": 1, "delivered_to": "https://example.com/telnyx/messaging"}
    return {"data": data, "meta": meta}


def inbound(**changed: object) -> dict[str, Any]:
    """Return the payload of a `message.received`, with a message id of its own."""
    sender = {"phone_number": PERSON, "carrier": "T-Mobile USA", "line_type": "long_code"}
    ours = {"phone_number": OURS, "carrier": "Telnyx", "line_type": "Wireless"}
    return {
        "record_type": "message",
        "direction": "inbound",
        "type": "SMS",
        "id": f"84cca175-9755-4859-b67f-{next(_numbers):012x}",
        "from": sender,
        "to": [{**ours, "status": "webhook_delivered"}],
        "cc": [],
        "text": "Are you open on Sunday?",
        "media": [],
        "messaging_profile_id": "740572b6-099c-44a1-89b9-6c92163bc68d",
        "organization_id": "47a530f8-4362-4526-829b-bcee17fd9f7a",
        "received_at": "2026-10-21T20:16:07.503+00:00",
        "sent_at": None,
        "completed_at": None,
        "valid_until": None,
        "parts": 1,
        "encoding": "GSM-7",
        "tags": [],
        "errors": [],
        "cost": {"amount": "0.0000", "currency": "USD"},
        **changed,
    }


def whatsapp(body: object, **changed: object) -> dict[str, Any]:
    """Return the payload of a WhatsApp message: `to` is a string, and the text is in the body."""
    return inbound(type="WHATSAPP", to=OURS, text=None, body=body, **changed)


def outbound(status: str, **changed: object) -> dict[str, Any]:
    """Return the payload of a report on a message that we sent."""
    to = {"phone_number": PERSON, "carrier": "T-Mobile USA", "line_type": "Wireless"}
    return {
        "record_type": "message",
        "direction": "outbound",
        "id": "ac012cbf-5e09-46af-a69a-7c0e2d90993c",
        "type": "SMS",
        "from": {"phone_number": OURS, "carrier": "Telnyx", "line_type": "Wireless"},
        "to": [{**to, "status": status}],
        "text": "Yes.",
        "parts": 1,
        "errors": [],
        **changed,
    }


def received(**changed: object) -> bytes:
    """Return the body of a `message.received`."""
    return json.dumps(event("message.received", inbound(**changed))).encode()


def signed(body: bytes, *, at: int | None = None, key: SigningKey = KEY) -> dict[str, str]:
    """Return the headers with which Telnyx sends a body."""
    seconds = str(int(time.time()) if at is None else at)
    signature = key.sign(seconds.encode() + b"|" + body).signature
    return {
        "content-type": "application/json",
        "telnyx-timestamp": seconds,
        "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
    }
