"""The envelope of a mail: what a worker accepts, as from any other producer."""

from base64 import b64encode
from typing import Any

from message_worker_client.envelope.wire import MAX_ATTACHMENTS
from worker.channels.email.received import Received


def envelope_of(received: Received, *, recipient: str, thread: str) -> dict[str, Any]:
    """Return the envelope without its channel. Raises `ValueError` for a mail that names nobody.

    The outcome of a mail that no model answers is its signal. Of attachments, it has the pictures.
    """
    mail, person, verdict = received.mail, received.person, received.verdict
    if person is None:
        raise ValueError("the mail names nobody")
    document: dict[str, Any] = {
        "version": 1,
        "user": person.who.address,
        "recipient": recipient,
        "thread": thread,
        "message_id": mail.message_id,
        "text": received.text,
        "attachments": [
            {
                "content_type": one.content_type,
                "name": one.name,
                "data": b64encode(one.data).decode(),
            }
            for one in mail.attachments
            if one.data is not None
        ][:MAX_ATTACHMENTS],
    }
    if mail.sent_at is not None:
        document["sent_at"] = mail.sent_at.isoformat(timespec="seconds")
    if verdict is not None:
        document["signals"] = [verdict.outcome]
    return document
