"""The body of a request to send, made of stored values alone: once, before the first attempt.

Telnyx refuses the same idempotency key with another body, byte for byte.
"""

import json
from uuid import UUID, uuid5

from worker.domain.deliveries import Piece
from worker.domain.messages import ChannelAddress
from worker.domain.sms.text import cut, prepare, split, within_parts
from worker.domain.ways_out import TelnyxDelivery

SMS_PATH = "/messages"
WHATSAPP_PATH = "/messages/whatsapp"
_WHATSAPP_BYTES = 4096


def pieces_of(
    text: str,
    *,
    to: ChannelAddress,
    key: UUID,
    public_url: str,
    options: TelnyxDelivery,
) -> tuple[Piece, ...]:
    """Return the messages of a reply; `key`: of its delivery, `public_url`: of the gateway."""
    texts = _texts(text, to.recipient, options)
    # From the first key: made a second time, they are the same.
    keys = (key, *(uuid5(key, str(number)) for number in range(1, len(texts))))
    # The key is in the webhook's path: a receipt may come before the answer.
    return tuple(
        Piece(key=one, request=_body(text, to, f"{public_url}/telnyx/messaging/{one}", options))
        for one, text in zip(keys, texts, strict=True)
    )


def _texts(text: str, sender: str, options: TelnyxDelivery) -> tuple[str, ...]:
    # A text without anything visible is Telnyx's to refuse.
    text = prepare(text) or text
    fits = (
        _fits_whatsapp
        if options.whatsapp
        else within_parts(options.max_parts, short_code=sender.isdigit())
    )
    return split(text, fits) if options.split else (cut(text, fits),)


def _fits_whatsapp(text: str) -> bool:
    return len(text.encode()) <= _WHATSAPP_BYTES


def _body(text: str, to: ChannelAddress, webhook_url: str, options: TelnyxDelivery) -> str:
    # The number they wrote to: Telnyx's own memory of it ends after eight days. Without one the
    # profile chooses.
    sender = {"from": to.recipient} if to.recipient else {}
    document: dict[str, object] = {**sender, "to": to.address}
    if options.whatsapp:
        shown = {"type": "text", "text": {"body": text, "preview_url": False}}
        document |= {"type": "WHATSAPP", "whatsapp_message": shown}
    else:
        document["text"] = text
    document["webhook_url"] = webhook_url
    if options.profile_id is not None:
        document["messaging_profile_id"] = options.profile_id
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
