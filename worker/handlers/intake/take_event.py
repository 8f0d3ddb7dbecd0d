"""Takes Telnyx's messaging events: a message goes to the inbox, a receipt to its delivery.

The gateway calls it for each webhook. While Postgres is away the gateway queues the event, and a
worker calls the same from the task `channels.event`. Taking an event twice changes nothing.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from worker.channels.sms.events import Echo, Ignored, Inbound, read_event
from worker.domain.ids import given_id
from worker.domain.messages import ChannelAddress
from worker.domain.routing import Routing
from worker.domain.sms.receipts import Receipt
from worker.domain.text.normal_forms import normalized
from worker.handlers.telemetry.deliveries import record_receipt
from worker.handlers.telemetry.intake import record_event
from worker.store.delivery.receipts import ReceiptStore
from worker.store.intake.inbox import InboxStore
from worker.store.operators.users import UserStore

_KEY: Final = ("channel", "recipient", "user", "thread", "message_id")


class InboxEntry(NamedTuple):
    """An envelope as JSON, and the id under which its sender looks for it."""

    id: UUID
    envelope: str


Work: TypeAlias = InboxEntry | Receipt | ChannelAddress
"""What an event asks for; of an echo, the user whom our staff has taken over."""


@dataclass(frozen=True, kw_only=True)
class TakeEvent:
    """The use case behind Telnyx's webhooks."""

    inbox: InboxStore
    receipts: ReceiptStore
    users: UserStore
    routing: Callable[[], Routing]
    namespace: UUID

    def __call__(self, document: object, key: str | None = None) -> str:
        """Take one event; return the task's result. Raises `RetryableError`."""
        work = self.read(document, key)
        if work is None:
            return "ignored"
        self.commit([work])
        return f"queued task={work.id}" if isinstance(work, InboxEntry) else "noted"

    def read(self, document: object, key: str | None) -> Work | None:
        """Decide what an event asks for; None = nothing. Counts it, reads no database."""
        event = read_event(document, _uuid(key))
        match event:
            case Inbound():
                record_event("received")
                return self._entry(event)
            case Receipt():
                record_event("receipt")
                return event
            case Echo():
                record_event("echo")
                return ChannelAddress(
                    channel=self.routing().telnyx_channel(whatsapp=True),
                    recipient=event.recipient,
                    address=event.user,
                    thread="",
                )
            case Ignored():
                record_event(event.reason)
                return None

    def commit(self, works: Sequence[Work]) -> None:
        """Store these, the messages in one statement. Raises `RetryableError`."""
        if entries := [work for work in works if isinstance(work, InboxEntry)]:
            self.inbox.put(entries)
        for work in works:
            match work:
                case Receipt():
                    recorded = self.receipts.record(work, self.routing().person_at)
                    if recorded is not None:
                        record_receipt(recorded)
                case ChannelAddress():
                    self.users.pause_for_staff(work)
                case InboxEntry():
                    pass

    def _entry(self, event: Inbound) -> InboxEntry:
        channel = self.routing().telnyx_channel(whatsapp=event.whatsapp)
        envelope = {"channel": channel, **event.envelope}
        key = (normalized("NFC", envelope.get(name, "")) for name in _KEY)
        return InboxEntry(given_id(self.namespace, *key), json.dumps(envelope))


def _uuid(key: str | None) -> UUID | None:
    try:
        return None if key is None else UUID(key)
    except ValueError:
        return None
