"""What most parts of one worker process share, and where the configuration is read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from uuid import UUID, uuid4

from worker.channels.live import LiveReplies
from worker.config.agents_file import load_agents
from worker.config.settings import Settings, SettingsError
from worker.domain.ids import WorkerId
from worker.domain.routing import Routing
from worker.domain.timing import Timing
from worker.handlers.intake.accept import AcceptEnvelope
from worker.handlers.turns.slots import TurnSlots
from worker.observability import metrics, traces
from worker.observability.logs import log
from worker.observability.metrics_server import MetricsServer
from worker.queue.broker import is_amqp
from worker.store.database import Database
from worker.store.intake.messages import MessageStore
from worker.store.turns.due_users import SweepStore
from worker.telnyx.client import TelnyxClient
from worker.tools.build import ToolConfigError, build_tools
from worker.tools.tool import Tool

if TYPE_CHECKING:
    from worker.observability.otel import TraceExport


@dataclass(frozen=True, kw_only=True)
class Base:
    """What most parts of one worker process share."""

    routing: Routing
    timing: Timing
    namespace: UUID
    worker_id: WorkerId
    lease_s: float
    database: Database
    listen_url: str
    own_database: Database
    """Heartbeat and sweeper never wait behind two hundred threads for a connection."""
    telnyx: TelnyxClient
    tools: Mapping[str, Tool]
    live: LiveReplies | None
    slots: TurnSlots
    sweeps: SweepStore
    metrics_server: MetricsServer | None
    trace_export: "TraceExport | None"
    pin_to_core: bool

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Build it. Raises `SettingsError`."""
        routing, timing = load_agents(settings.agents_file)
        prepare = settings.database_prepare
        slots = TurnSlots(settings.turn_slots, agents=len(routing.agents))
        worker_id = WorkerId(uuid4())
        metrics.show_slots(free=lambda: slots.free, taken=lambda: slots.busy)
        metrics.show_agents(tuple(routing.agents))
        own = Database(
            settings.database_url, pool_size=3, name="worker-background", prepare=prepare
        )
        return cls(
            routing=routing,
            timing=timing,
            namespace=settings.namespace,
            worker_id=worker_id,
            lease_s=timing.lease_s(_longest_step_s(routing)),
            database=Database(
                settings.database_url, pool_size=settings.database_pool_size, prepare=prepare
            ),
            listen_url=settings.listen_database_url or settings.database_url,
            own_database=own,
            telnyx=TelnyxClient(settings.telnyx_api_key, base_url=settings.telnyx_base_url),
            tools=_tools(routing),
            live=_live(routing, settings),
            slots=slots,
            sweeps=SweepStore(own, wake_ttl_s=timing.wake_ttl_s),
            metrics_server=_metrics_server(settings),
            trace_export=_trace_export(os.environ, worker_id),
            pin_to_core=settings.pin_to_core,
        )

    def accept(self, database: Database) -> AcceptEnvelope:
        """Build what accepts envelopes, on one of the pools."""
        return AcceptEnvelope(messages=MessageStore(database), routing=self.routing)

    def start_telemetry(self) -> None:
        """Serve metrics and send spans, if the settings ask for it."""
        if self.metrics_server is not None:
            self.metrics_server.start()
        if self.trace_export is not None:
            self.trace_export.start()

    def close(self) -> None:
        """Hang up."""
        if self.metrics_server is not None:
            self.metrics_server.stop()
        self.telnyx.close()
        if self.live is not None:
            self.live.close()
        self.database.close()
        self.own_database.close()
        # Last: closing the others may still record spans.
        if self.trace_export is not None:
            self.trace_export.stop()


def _metrics_server(settings: Settings) -> MetricsServer | None:
    if settings.metrics_port is None:
        return None
    return MetricsServer(
        metrics.REGISTRY,
        host="0.0.0.0",  # noqa: S104 - Prometheus runs on another host or container
        port=settings.metrics_port,
        files=settings.metrics_file_sd_dir,
    )


def _trace_export(environ: Mapping[str, str], worker_id: WorkerId) -> "TraceExport | None":
    """Build it if an endpoint is set. A failure costs the traces, never the worker."""
    if not traces.are_wanted(environ):
        return None
    # The SDK is an extra, and costs every process that does not send spans half a second.
    try:
        from worker.observability.otel import TraceExport  # noqa: PLC0415 - see above

        return TraceExport({"service.name": "worker", "service.instance.id": str(worker_id)})
    except ImportError:
        log.error("traces.import_failed", install="worker[otel]")
    except Exception as error:  # noqa: BLE001 - the docstring says it
        log.error("traces.setup_failed", error=type(error).__name__)
    return None


def longest_lease_s(settings: Settings) -> float:
    """Give how long a turn's longest step may hold its user. Raises `SettingsError`."""
    routing, timing = load_agents(settings.agents_file)
    return timing.lease_s(_longest_step_s(routing))


def _longest_step_s(routing: Routing) -> float:
    """Give the longest time between two commits of one turn: a call, or a tool."""
    calls = (agent.call_timeout_s for agent in routing.agents.values())
    tools = (tool.timeout_s for tool in routing.tools.values())
    return max((*calls, *tools))


def _live(routing: Routing, settings: Settings) -> LiveReplies | None:
    if not any(agent.stream for agent in routing.agents.values()):
        return None
    if is_amqp(settings.broker_url):
        log.warning("live.needs_redis")  # replies come all the same, in one piece
        return None
    return LiveReplies(settings.broker_url)


def _tools(routing: Routing) -> dict[str, Tool]:
    try:
        return build_tools(routing.tools, os.environ)
    except ToolConfigError as error:
        raise SettingsError(f"AGENTS_FILE: {error}") from None
