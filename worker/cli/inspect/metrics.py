"""`worker metrics`: what Postgres and the broker say of the whole, for Prometheus.

A scrape is never refused. Each part is asked for by itself, within bounds; one that fails is told
as `worker_scrape_error{part="..."} 1`, and its gauges are missing until it answers again.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from worker.bootstrap.reports import open_reports
from worker.cli.console import print_line
from worker.cli.errors import CommandError
from worker.cli.settings import settings_for
from worker.domain.errors import WorkerError
from worker.net.clock import boottime
from worker.observability.logs import configure_logging, log
from worker.observability.metrics_server import MetricsServer
from worker.queue.broker import QUEUES, waiting_entries
from worker.store.reports.gauges import QUESTIONS, SHORT_S, GaugeStore, Metric, Question, Reading

BUDGET_S: Final = 5.0
"""A part is not begun later than this after the scrape's start: Prometheus waits ten seconds."""
WAIT_S: Final = 8.0
"""A scrape waits for no part longer than this."""
_BROKER: Final = "broker"
_ENTRIES: Final = Metric(
    name="worker_queue_entries",
    help="Entries at the broker by queue; unacked = taken by a worker, and not done",
    labels=("queue",),
)
_ERROR: Final = Metric(
    name="worker_scrape_error",
    help="Whether this part could not be asked for, or not in time",
    labels=("part",),
)
_SECONDS: Final = Metric(
    name="worker_scrape_seconds", help="How long a part took when last asked", labels=("part",)
)
METRICS: Final = (
    *(metric for question in QUESTIONS for metric in question.metrics),
    _ENTRIES,
    _ERROR,
    _SECONDS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing to ask for; `ask` may raise anything."""

    name: str
    ask: Callable[[], tuple[Reading, ...]]
    good_for_s: float = SHORT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What came of it. `readings` None = it failed."""

    good_until_s: float
    took_s: float
    readings: tuple[Reading, ...] | None


_NEVER: Final = Asked(good_until_s=float("-inf"), took_s=0.0, readings=None)


class Overall(Collector):
    """Asks for the parts whose last answer is too old; scrapes that come together share them."""

    def __init__(
        self,
        parts: Iterable[Part],
        *,
        wait_s: float = WAIT_S,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._parts = tuple(parts)
        self._wait_s = wait_s
        self._clock = clock
        self._lock = threading.Lock()
        self._asking = threading.Thread(target=self._ask_again)
        """The newest round; a server that is frozen holds it up, and no scrape."""
        self._asked: dict[str, Asked] = {}

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Give the names, without asking anybody."""
        return list(_families().values())

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Give what is known now."""
        with self._lock:
            if not self._asking.is_alive():
                self._asking = threading.Thread(target=self._ask_again, daemon=True)
                self._asking.start()
            asking = self._asking
        asking.join(self._wait_s)
        is_whole = not asking.is_alive()
        asked = dict(self._asked)
        families = _families()
        for name in (part.name for part in self._parts):
            one = asked.get(name, _NEVER)
            is_known = is_whole or self._clock() < one.good_until_s
            readings = one.readings if is_known else None
            families[_ERROR.name].add_metric([name], float(readings is None))
            families[_SECONDS.name].add_metric([name], one.took_s)
            for reading in readings or ():
                families[reading.metric.name].add_metric(reading.labels, reading.value)
        return list(families.values())

    def _ask_again(self) -> None:
        started = self._clock()
        for part in self._parts:
            begun = self._clock()
            last = self._asked.get(part.name)
            if last is not None and begun < last.good_until_s:
                continue
            readings = _asked(part) if begun < started + BUDGET_S else None
            ended = self._clock()
            good_for_s = SHORT_S if readings is None else part.good_for_s
            self._asked[part.name] = Asked(
                good_until_s=ended + good_for_s, took_s=ended - begun, readings=readings
            )


def _asked(part: Part) -> tuple[Reading, ...] | None:
    try:
        return part.ask()
    except Exception as error:  # noqa: BLE001 - the other parts are wanted all the more now
        why = str(error) if isinstance(error, WorkerError) else type(error).__name__
        log.warning("metrics.part_failed", part=part.name, error=why)
        return None


def run(*, host: str, port: int) -> None:
    """Serve until somebody stops it. Raises `CommandError`."""
    settings = settings_for("database_url", "broker_url")
    configure_logging(settings.log_level)
    with open_reports(settings.database_url, name="worker-metrics") as reports:
        registry = CollectorRegistry()
        registry.register(Overall(_parts(reports.gauges, settings.broker_url)))
        server = MetricsServer(registry, host=host, port=port)
        try:
            if not server.start():
                raise CommandError(f"port {port} on {host} is in use: choose another --port")
            print_line(f"http://{host}:{server.port}/metrics")
            threading.Event().wait()
        finally:
            server.stop()


def _parts(store: GaugeStore, broker_url: str) -> list[Part]:
    def ask(question: Question) -> Callable[[], tuple[Reading, ...]]:
        return lambda: store.answer(question)

    return [
        Part(name=_BROKER, ask=lambda: _entries(broker_url)),
        *(Part(name=one.part, ask=ask(one), good_for_s=one.good_for_s) for one in QUESTIONS),
    ]


def _entries(broker_url: str) -> tuple[Reading, ...]:
    depths = waiting_entries(broker_url, QUEUES)
    return tuple(
        Reading(metric=_ENTRIES, labels=(name,), value=float(depth))
        for name, depth in depths.items()
    )


def _families() -> dict[str, GaugeMetricFamily]:
    return {one.name: GaugeMetricFamily(one.name, one.help, labels=one.labels) for one in METRICS}
