"""What most parts of one worker process share, and where the configuration is read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from uuid import UUID, uuid4

from worker.bootstrap.metrics import Metrics, build_metrics
from worker.bootstrap.tracing import Tracing, build_tracing
from worker.channels.live import LiveReplies
from worker.config.agents_file import load_agents
from worker.config.settings import Settings, SettingsError
from worker.domain.ids import WorkerId
from worker.domain.routing import Routing
from worker.domain.timing import Timing
from worker.handlers.intake.accept import AcceptEnvelope
from worker.handlers.turns.slots import TurnSlots
from worker.observability.logs import log
from worker.queue.broker import is_amqp
from worker.store.database import Database
from worker.store.intake.messages import MessageStore
from worker.store.turns.due_users import SweepStore
from worker.telnyx.client import TelnyxClient
from worker.tools.build import ToolConfigError, build_tools
from worker.tools.tool import Tool


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
    metrics: Metrics
    tracing: Tracing
    pin_to_core: bool

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Build it. Raises `SettingsError`."""
        routing, timing = load_agents(settings.agents_file)
        prepare = settings.database_prepare
        slots = TurnSlots(settings.turn_slots, agents=len(routing.agents))
        worker_id = WorkerId(uuid4())
        tracing = build_tracing(os.environ, worker_id)
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
            telnyx=TelnyxClient(
                settings.telnyx_api_key, base_url=settings.telnyx_base_url, tracer=tracing.tracer
            ),
            tools=_tools(routing),
            live=_live(routing, settings),
            slots=slots,
            sweeps=SweepStore(own, wake_ttl_s=timing.wake_ttl_s),
            metrics=build_metrics(settings, routing, slots),
            tracing=tracing,
            pin_to_core=settings.pin_to_core,
        )

    def accept(self, database: Database) -> AcceptEnvelope:
        """Build what accepts envelopes, on one of the pools."""
        messages, meters = MessageStore(database), self.metrics.meters
        return AcceptEnvelope(
            messages=messages, routing=self.routing, meters=meters, tracer=self.tracing.tracer
        )

    def close(self) -> None:
        """Hang up."""
        self.metrics.stop()
        self.telnyx.close()
        if self.live is not None:
            self.live.close()
        self.database.close()
        self.own_database.close()
        self.tracing.stop()


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
