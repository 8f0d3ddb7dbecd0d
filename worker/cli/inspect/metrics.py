"""`worker metrics`: Prometheus scrapes the counts of Postgres and the broker here.

No scrape is refused. Each part is asked by itself, within bounds; of one that fails the gauges are
missing, and `worker_scrape_error{part="..."}` is 1 until it answers again.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from worker.bootstrap.status import open_counts
from worker.cli.console import print_line
from worker.cli.errors import CommandError
from worker.cli.inspect.gauges import METRICS, Samples, parts_of
from worker.cli.settings import settings_for
from worker.domain.errors import WorkerError
from worker.net.clock import boottime
from worker.observability.logs import configure_logging, log
from worker.observability.metrics_server import MetricsServer

BUDGET_S: Final = 5.0
"""No part begins later than this after the scrape did: Prometheus gives up after ten seconds."""
WAIT_S: Final = 8.0
"""No scrape waits longer than this."""


class Overall(Collector):
    """Asks for all parts at each scrape; scrapes that come together share the answers."""

    def __init__(
        self,
        parts: Mapping[str, Callable[[], Samples]],
        *,
        wait_s: float = WAIT_S,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._parts = parts
        self._wait_s = wait_s
        self._clock = clock
        self._lock = threading.Lock()
        self._scrape = _Scrape(parts, clock)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return the names; nothing is asked for them."""
        return list(_families().values())

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Ask for all parts and return their gauges."""
        with self._lock:
            if not self._scrape.is_alive():
                self._scrape = _Scrape(self._parts, self._clock)
                self._scrape.start()
            asked = self._scrape
        asked.join(self._wait_s)
        # A scrape that still runs after this long hangs at a frozen server. Later ones do not start
        # another, and its values are too old to be shown.
        hangs = asked.is_alive() and self._clock() - asked.began_s > self._wait_s
        families = _families()
        for part in self._parts:
            took_s, samples = (0.0, None) if hangs else asked.answers.get(part, (0.0, None))
            families["worker_scrape_error"].add_metric([part], float(samples is None))
            families["worker_scrape_seconds"].add_metric([part], took_s)
            for name, labels, value in samples or ():
                families[name].add_metric(labels, value)
        return list(families.values())


class _Scrape(threading.Thread):
    """Asks for each part once. A thread, as no timeout of ours ends a wait for a frozen server."""

    def __init__(
        self, parts: Mapping[str, Callable[[], Samples]], clock: Callable[[], float]
    ) -> None:
        # Daemon: a hanging scrape must not keep the process from ending.
        super().__init__(name="scrape", daemon=True)
        self._parts = parts
        self._clock = clock
        self.began_s = clock()
        self.answers: dict[str, tuple[float, Samples | None]] = {}
        """By part: how long it took, and its samples; None = it failed."""

    def run(self) -> None:
        for part, ask in self._parts.items():
            began_s = self._clock()
            if began_s - self.began_s >= BUDGET_S:
                return
            samples = _asked(part, ask)
            self.answers[part] = (self._clock() - began_s, samples)


def _asked(part: str, ask: Callable[[], Samples]) -> Samples | None:
    try:
        return list(ask())
    except Exception as error:  # noqa: BLE001 - one part fails alone: the others matter all the more
        why = str(error) if isinstance(error, WorkerError) else type(error).__name__
        log.warning("metrics.part_failed", part=part, error=why)
        return None


def run(*, host: str, port: int) -> None:
    """Serve until the process is stopped. Raises `CommandError`."""
    settings = settings_for("database_url", "broker_url")
    configure_logging(settings.log_level)
    registry = CollectorRegistry()
    with open_counts(settings.database_url, name="worker-metrics", is_bounded=True) as counts:
        registry.register(Overall(parts_of(counts, settings.broker_url)))
        server = MetricsServer(registry, host=host, port=port)
        try:
            if not server.start():
                raise CommandError(f"port {port} on {host} is in use: choose another --port")
            print_line(f"http://{host}:{server.port}/metrics")
            threading.Event().wait()
        finally:
            server.stop()


def _families() -> dict[str, GaugeMetricFamily]:
    return {
        name: GaugeMetricFamily(name, about, labels=labels)
        for name, (about, *labels) in METRICS.items()
    }
