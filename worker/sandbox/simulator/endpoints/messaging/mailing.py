"""POST /email_messages: a mail that is queued, and goes nowhere.

An address at `test.telnyx.com` is magic: `suppressed@` is taken and suppressed, `rate-limit@` is
refused for now.
"""

from datetime import UTC, datetime
from uuid import uuid4

from worker.sandbox.simulator.endpoints.answers import Answer, declined, ok
from worker.sandbox.simulator.record.events import MailStored
from worker.sandbox.simulator.record.values import Json, timestamp
from worker.sandbox.simulator.state.state import Exchange, State

_MAX_BODY = 1024 * 1024


def create(state: State, exchange: Exchange) -> Answer:
    """Take a mail: 200 and queued."""
    body = exchange.payload
    if not isinstance(body, dict):
        return declined("10023", 400, "The request body should be valid JSON.", "/")
    missing = next((one for one in ("from", "to", "subject") if not body.get(one)), None)
    if missing is not None:
        return declined("10004", 422, f"The '{missing}' parameter is required.", f"/{missing}")
    address = _address(body)
    if "@" not in address:
        return declined("10015", 422, "The 'to' address is invalid.", "/to/0/email")
    if address == "rate-limit@test.telnyx.com":
        return declined("10011", 429, "Too many requests.", "/")
    if len(str(body.get("text_body") or "")) > _MAX_BODY:
        return declined("10015", 422, "The body is too large.", "/text_body")
    stored = MailStored(request=exchange.number, id=str(uuid4()), mail=body)
    state.log.append(stored)
    shown: Json = {
        "id": stored.id,
        "record_type": "email_message",
        "status": "queued",
        **{name: body.get(name) for name in ("from", "to", "cc", "bcc", "subject", "metadata")},
        "events": [],
        "created_at": timestamp(datetime.now(UTC), 3),
    }
    suppressed = [address] if address == "suppressed@test.telnyx.com" else []
    return ok({"data": shown, **({"suppressed": suppressed} if suppressed else {})})


def _address(body: Json) -> str:
    to = body["to"]
    first = to[0] if isinstance(to, list) and to else {}
    return str(first.get("email") or "") if isinstance(first, dict) else ""
