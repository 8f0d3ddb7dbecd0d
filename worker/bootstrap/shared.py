"""Reads the configuration and builds the parts that most of one worker process shares."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from worker.bootstrap.agents import CurrentAgents
from worker.bootstrap.telnyx import build_telnyx
from worker.channels.live import LiveReplies
from worker.config.agents_file import load_agents
from worker.config.settings import Settings
from worker.domain.ids import WorkerId, installation_tag
from worker.domain.routing import Routing
from worker.handlers.turns.slots import TurnSlots
from worker.observability import metrics, traces
from worker.observability.logs import log
from worker.observability.metrics_server import MetricsServer
from worker.queue.broker import is_amqp
from worker.store.database import Database
from worker.store.turns.due_users import SweepStore
from worker.store.turns.lease import LeasedStore
from worker.tools.build import build_tools
from worker.tools.built_in import BUILT_IN

if TYPE_CHECKING:
    from worker.observability.otel import TraceExport

_Store = TypeVar("_Store", bound=LeasedStore)


class SharedParts:
    """The parts that most of one worker process shares."""

    def __init__(self, settings: Settings) -> None:
        """Connect to nothing and start nothing yet. Raises `SettingsError`."""
        self.settings = settings
        self.agents = CurrentAgents(settings.agents_file)
        routing, self.timing = self.agents.routing, self.agents.timing
        self.namespace = settings.namespace
        self.worker_id = WorkerId(uuid4())
        prepare = settings.database_prepare
        self.database = Database(
            settings.database_url, pool_size=settings.database_pool_size, prepare=prepare
        )
        # Heartbeat and sweeper must not wait behind two hundred threads for a connection.
        self.own_database = Database(
            settings.database_url, pool_size=3, name="worker-background", prepare=prepare
        )
        self.listen_url = settings.listen_database_url or settings.database_url
        # First of all that can record spans: it sets the tracer of the process.
        self._trace_export = _trace_export(os.environ, self.worker_id)
        self.telnyx = build_telnyx(settings)
        self.tools = build_tools(routing.tools, os.environ) | BUILT_IN
        self.live = _live(routing, settings)
        self.slots = slots = TurnSlots(settings.turn_slots, agents=len(routing.agents))
        self.sweeps = SweepStore(self.own_database, wake_ttl_s=self.timing.wake_ttl_s)
        metrics.SLOTS.labels("free").set_function(lambda: slots.free)
        metrics.SLOTS.labels("taken").set_function(lambda: slots.busy)
        metrics.show_agents(tuple(routing.agents))
        self._metrics_server = MetricsServer(
            port=settings.metrics_port, files=settings.metrics_file_sd_dir
        )

    def leased(self, store: type[_Store]) -> _Store:
        """Build a store that works on leased channel users."""
        return store(
            self.database,
            worker_id=self.worker_id,
            routing=self.agents.current,
            lease_s=self.timing.lease_s(self.agents.routing.longest_step_s()),
            installation=installation_tag(self.namespace),
        )

    def start_telemetry(self) -> None:
        """Serve metrics and send spans, if the settings ask for it."""
        self._metrics_server.start()
        if self._trace_export is not None:
            self._trace_export.start()

    def close_idle(self) -> None:
        """Close connections to Postgres that nobody has used for a while."""
        self.database.close_idle()
        self.own_database.close_idle()

    def close(self) -> None:
        """Close all connections."""
        self._metrics_server.stop()
        self.telnyx.close()
        if self.live is not None:
            self.live.close()
        self.database.close()
        self.own_database.close()
        # Last: closing the others may still record spans.
        if self._trace_export is not None:
            self._trace_export.stop()


def _trace_export(environ: Mapping[str, str], worker_id: WorkerId) -> "TraceExport | None":
    """Build it if an endpoint is set. A failure costs the traces, never the worker."""
    if not traces.are_wanted(environ):
        return None
    # Not at the top: the SDK is an extra, and takes time and memory of processes without traces.
    try:
        from worker.observability.otel import TraceExport  # noqa: PLC0415 - see above

        return TraceExport({"service.name": "worker", "service.instance.id": str(worker_id)})
    except ImportError:
        log.error("traces.import_failed", install="message-worker[otel]")
    except Exception as error:  # noqa: BLE001 - see the docstring
        log.error("traces.setup_failed", error=type(error).__name__)
    return None


def longest_lease_s(settings: Settings) -> float:
    """Return how long a turn's longest step may hold its user. Raises `SettingsError`."""
    routing, timing = load_agents(settings.agents_file)
    return timing.lease_s(routing.longest_step_s())


def _live(routing: Routing, settings: Settings) -> LiveReplies | None:
    if not any(agent.stream for agent in routing.agents.values()):
        return None
    if is_amqp(settings.broker_url):
        # A warning only: replies still arrive, in one piece.
        log.warning("live.needs_redis")
        return None
    return LiveReplies(settings.broker_url)
