"""The Python client: hands messages to the service; needs only `celery[redis]` and `pydantic`.

    with Producer(broker_url=os.environ["BROKER_URL"]) as producer:
        producer.send(channel="sms", user="+13125550001", message_id="carrier-id-1", text="Hello")

- A message that a worker would refuse is refused here, in the same words, before it is queued.
- A call returns once everything is confirmed, or raises `ProducerError` in bounded time.
- Sending again after an error is always safe: the same `message_id` changes nothing.
- Neither errors nor Celery's own views (Flower, events) hold what people wrote.

It is installed without the service, which checks with the same `message_worker_client.envelope`.
"""

from message_worker_client.message import ProducerError
from message_worker_client.producer import AttachmentFields, MessageFields, Producer, Queued
from message_worker_client.replies import MessageKey, Outcome, Outcomes, wait_for_reply

__all__ = [
    "AttachmentFields",
    "MessageFields",
    "MessageKey",
    "Outcome",
    "Outcomes",
    "Producer",
    "ProducerError",
    "Queued",
    "wait_for_reply",
]
