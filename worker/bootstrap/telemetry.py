"""Builds the metrics server that worker, gateway and mailbox have."""

from worker.config.settings import Settings
from worker.observability.metrics import REGISTRY
from worker.observability.metrics_server import MetricsServer


def build_metrics_server(settings: Settings) -> MetricsServer:
    """Build it for this process; it serves nothing yet."""
    return MetricsServer(
        REGISTRY,
        host="0.0.0.0",  # noqa: S104 - Prometheus runs on another host or container
        port=settings.metrics_port,
        files=settings.metrics_file_sd_dir,
    )
