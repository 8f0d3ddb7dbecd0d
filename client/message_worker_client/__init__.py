"""The Python client: hands messages to the service; needs only `celery[redis]` and `pydantic`.

    with Producer(broker_url=os.environ["BROKER_URL"]) as producer:
        producer.send(channel="sms", user="+13125550001", message_id="carrier-id-1", text="Hello")

- A message that a worker would refuse is refused here, in the same words, before it is queued.
- A call returns once everything is confirmed, or raises `ProducerError` in bounded time.
- Sending again after an error is always safe: the same `message_id` changes nothing.
- Neither errors nor Celery's own views (Flower, events) hold what people wrote.

It is installed without the service, which checks with the same `message_worker_client.envelope`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from message_worker_client.message import ProducerError
    from message_worker_client.producer import AttachmentFields, MessageFields, Producer, Queued
    from message_worker_client.replies import MessageKey, Outcome, Outcomes, wait_for_reply

_MODULES: Final = {
    "message": ("ProducerError",),
    "producer": ("AttachmentFields", "MessageFields", "Producer", "Queued"),
    "replies": ("MessageKey", "Outcome", "Outcomes", "wait_for_reply"),
}

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


def __getattr__(name: str) -> object:
    """Import a name when it is used: the service connects with our modules, and sends nothing."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
