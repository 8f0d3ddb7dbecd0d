"""Builds what takes Telnyx's events: the gateway, the workers and a replay share it."""

from collections.abc import Callable
from uuid import UUID

from worker.domain.routing import Routing
from worker.handlers.intake.take_event import TakeEvent
from worker.store.database import Database
from worker.store.delivery.receipts import ReceiptStore
from worker.store.intake.inbox import InboxStore
from worker.store.operators.users import UserStore


def build_take_event(
    database: Database, routing: Callable[[], Routing], namespace: UUID
) -> TakeEvent:
    """Build the use case."""
    return TakeEvent(
        inbox=InboxStore(database),
        receipts=ReceiptStore(database),
        users=UserStore(database),
        routing=routing,
        namespace=namespace,
    )
