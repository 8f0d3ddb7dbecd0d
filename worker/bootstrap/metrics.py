"""Builds what counts in a worker process, and what shows it; where no port is set, nothing does."""

from collections.abc import Callable
from dataclasses import dataclass

from worker.config.settings import Settings
from worker.domain.routing import Routing
from worker.handlers.turns.slots import TurnSlots
from worker.observability.metrics import Meters
from worker.observability.metrics_server import MetricsServer
from worker.observability.prometheus import PrometheusMeters


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What the handlers count with, and the server that shows it."""

    meters: Meters
    start: Callable[[], object]
    stop: Callable[[], object]


def build_metrics(settings: Settings, routing: Routing, slots: TurnSlots) -> Metrics:
    """Build them; nothing is started."""
    if settings.metrics_port is None:
        return Metrics(meters=Meters(), start=lambda: None, stop=lambda: None)
    meters = PrometheusMeters()
    meters.show_slots(free=lambda: slots.free, taken=lambda: slots.busy)
    meters.know(agents=tuple(routing.agents))
    exposition = MetricsServer(
        meters.registry,
        host="0.0.0.0",  # noqa: S104 - Prometheus is another host or container
        port=settings.metrics_port,
        files=settings.metrics_file_sd_dir,
    )
    return Metrics(meters=meters, start=exposition.start, stop=exposition.stop)
