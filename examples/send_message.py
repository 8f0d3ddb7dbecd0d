"""Send one message to the service. Needs only `pip install "celery[redis]"`.

    BROKER_URL=redis://localhost:6379/0 python send_message.py "Hello, are you open today?"

It prints the message_id, by which find_reply.sql finds the answer.
"""

import os
import sys
from datetime import UTC, datetime
from uuid import uuid4

from celery import Celery

app = Celery(broker=os.environ["BROKER_URL"])

envelope = {
    "version": 1,
    "channel": "web",
    "user": "visitor-1",
    # The channel's own id of the message, so that a repetition has no effect.
    "message_id": str(uuid4()),
    "text": " ".join(sys.argv[1:]) or "Hello!",
    "sent_at": datetime.now(UTC).isoformat(),
}
app.send_task("messages.receive", kwargs={"envelope": envelope}, queue="inbound")
print(envelope["message_id"])
