"""Builds what the commands that only read work with: stores over one connection, and no threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from worker.config.settings import Settings
from worker.domain.routing import Routing
from worker.domain.timing import Timing
from worker.handlers.operators.explain import ExplainMessage
from worker.store.database import Database
from worker.store.reports.find_message import FindMessageStore
from worker.store.reports.gauges import GaugeStore
from worker.store.reports.message_history import MessageHistoryStore
from worker.store.reports.outcomes import OutcomeStore
from worker.store.reports.status import StatusStore
from worker.store.reports.stuck import StuckStore
from worker.store.reports.usage import UsageStore
from worker.telnyx.client import TelnyxClient


@dataclass(frozen=True, kw_only=True)
class Reports:
    """The reports over Postgres. They share one connection: use them one after the other."""

    status: StatusStore
    stuck: StuckStore
    gauges: GaugeStore
    outcomes: OutcomeStore
    usage: UsageStore
    find_message: FindMessageStore
    history: MessageHistoryStore

    def explain(self, routing: Routing, timing: Timing) -> ExplainMessage:
        """Build the use case behind `worker why`."""
        return ExplainMessage(
            finding=self.find_message, histories=self.history, routing=routing, timing=timing
        )


@contextmanager
def open_database(url: str, *, name: str = "worker-cli") -> Iterator[Database]:
    """Open a pool of one connection and close it afterwards.

    `name` appears in `pg_stat_activity`. Raises `ArgumentError` or `ValueError` if `url` is no
    address of Postgres.
    """
    database = Database(url, pool_size=1, name=name)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def open_reports(url: str, *, name: str = "worker-cli") -> Iterator[Reports]:
    """Open the reports over a pool of one connection and close it afterwards."""
    with open_database(url, name=name) as database:
        yield Reports(
            status=StatusStore(database),
            stuck=StuckStore(database),
            gauges=GaugeStore(database),
            outcomes=OutcomeStore(database),
            usage=UsageStore(database),
            find_message=FindMessageStore(database),
            history=MessageHistoryStore(database),
        )


def build_telnyx(settings: Settings) -> TelnyxClient:
    """Build a client for one command; the caller closes it."""
    return TelnyxClient(settings.telnyx_api_key, base_url=settings.telnyx_base_url)
