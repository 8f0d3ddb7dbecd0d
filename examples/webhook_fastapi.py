"""Receive a channel's webhook: check it, queue it, answer within two seconds.

    pip install fastapi uvicorn message-worker-client
    BROKER_URL=redis://localhost:6379/0 uvicorn webhook_fastapi:app

Channels call again when they get no 2xx in time. That is harmless: the same message_id changes
nothing. So a broker that does not confirm is answered with 503, and the channel keeps the message.
"""

import os
from typing import Any

from fastapi import FastAPI, HTTPException

from message_worker_client import Producer, ProducerError

app = FastAPI()
producer = Producer(broker_url=os.environ["BROKER_URL"], timeout_s=1.5)


@app.post("/inbound", status_code=202)
def inbound(event: dict[str, Any]) -> None:  # not async: FastAPI runs it on a thread
    """Queue one message. Check the channel's signature first: this example omits that."""
    try:
        producer.send(
            channel="web",
            user=event["from"],
            recipient=event.get("to"),
            message_id=event["id"],
            text=event["text"],
            sent_at=event.get("sent_at"),
        )
    except KeyError as error:
        raise HTTPException(422, f"{error.args[0]}: Field required") from None
    except ProducerError as error:
        # An error with a field is permanent; without one, a later call may succeed.
        raise HTTPException(422 if error.field else 503, str(error)) from None
