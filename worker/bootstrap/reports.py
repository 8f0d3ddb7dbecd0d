"""Builds what the commands that only read work with: stores over one connection, and no threads."""

from collections.abc import Iterator
from contextlib import contextmanager

from worker.bootstrap.status import open_database
from worker.config.settings import Settings
from worker.domain.routing import Routing
from worker.domain.timing import Timing
from worker.handlers.operators.explain import ExplainMessage
from worker.store.database import Database
from worker.store.reports.conversations import ConversationReports
from worker.store.reports.message_history import MessageReports
from worker.store.reports.stuck import StuckStore
from worker.store.reports.usage import UsageStore
from worker.telnyx.client import TelnyxClient


class Reports:
    """The reports over Postgres. They share one connection: use them one after the other."""

    def __init__(self, database: Database) -> None:
        self.stuck = StuckStore(database)
        self.conversations = ConversationReports(database)
        self.usage = UsageStore(database)
        self.messages = MessageReports(database)

    def explain(self, routing: Routing, timing: Timing) -> ExplainMessage:
        """Build the use case behind `worker why`."""
        return ExplainMessage(messages=self.messages, routing=routing, timing=timing)


@contextmanager
def open_reports(url: str) -> Iterator[Reports]:
    """Open the reports over a pool of one connection and close it afterwards."""
    with open_database(url) as database:
        yield Reports(database)


def build_telnyx(settings: Settings) -> TelnyxClient:
    """Build a client for one command; the caller closes it."""
    return TelnyxClient(settings.telnyx_api_key, base_url=settings.telnyx_base_url)
