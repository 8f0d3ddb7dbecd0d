"""What producers get of a reply."""

from typing import Any

from worker.domain.deliveries import OutgoingReply


def reply_document(reply: OutgoingReply) -> dict[str, Any]:
    """Give the reply as producers get it: JSON, version 1."""
    return {
        "version": 1,
        "idempotency_key": str(reply.idempotency_key),
        "channel": reply.to.channel,
        "recipient": reply.to.recipient,
        "user": reply.to.address,
        "thread": reply.to.thread,
        "text": reply.text,
        "message_ids": list(reply.message_ids),
        "metadata": dict(reply.metadata),
    }
