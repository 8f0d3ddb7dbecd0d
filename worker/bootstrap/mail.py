"""Builds what takes mails: the gateway, the mailbox's poller and `worker mail-in` share it."""

from collections.abc import Callable
from uuid import UUID

from worker.domain.routing import Routing
from worker.handlers.intake.take_mail import TakeMail
from worker.store.database import Database
from worker.store.delivery.receipts import ReceiptStore
from worker.store.intake.mails import MailStore


def build_take_mail(
    database: Database, routing: Callable[[], Routing], namespace: UUID
) -> TakeMail:
    """Build the use case."""
    return TakeMail(
        mails=MailStore(database),
        receipts=ReceiptStore(database),
        routing=routing,
        namespace=namespace,
    )
