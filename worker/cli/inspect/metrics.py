"""`worker metrics`: Prometheus scrapes the counts of Postgres and the broker here.

No scrape is refused. Each part is asked by itself, within bounds; of one that fails the gauges are
missing, and `worker_scrape_error{part="..."}` is 1 until it answers again.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from worker.domain.errors import WorkerError
from worker.domain.people.drafts import Decision
from worker.domain.reports.stuck import Waiting
from worker.domain.states import DeliveryState, MessageState
from worker.net.clock import boottime
from worker.observability.logs import log
from worker.queue.broker import QUEUES
from worker.queue.misplaced import misplaced_entries
from worker.queue.waiting import waiting_entries
from worker.store.reports.gauges import GaugeStore
from worker.store.reports.status import StatusStore, oldest_s

METRICS: Final[Mapping[str, tuple[str, ...]]] = {
    "worker_processes_alive": ("Workers with a fresh heartbeat",),
    "worker_processes_stalled": ("Living workers that take nothing while entries wait",),
    "worker_oldest_unanswered_seconds": (
        "Age of the oldest message without an outcome; stopped users do not count",
    ),
    "worker_messages_unanswered": ("Messages without an outcome: pending, or in a turn", "state"),
    "worker_diverged_users": ("Users who wait for an operator",),
    "worker_erasures_unfinished": (
        "Users whose erasure was started and not finished; run `worker erase` again",
    ),
    "worker_turns_open": ("Open turns",),
    "worker_calls_in_flight": ("Calls to Telnyx with a committed intent",),
    "worker_gates_closed": ("Gates that hold workers back",),
    "worker_gate_closed_seconds": (
        "Time until a gate opens; 0 = open, but no call has succeeded since",
        "gate",
    ),
    "worker_deliveries_undone": ("Unfinished deliveries, pending or sending", "state"),
    "worker_oldest_undelivered_seconds": ("Age of the oldest unfinished delivery; 0 = none",),
    "worker_dead_letters_open": ("Dead letters that nobody has resolved",),
    "worker_dead_letters": ("The same, by reason", "reason"),
    "worker_inbox_messages": ("Envelopes of SQL producers that no worker has accepted yet",),
    "worker_oldest_inbox_seconds": ("Age of the oldest row of the inbox; 0 = none",),
    "worker_messages_last_hour": (
        "Messages accepted within the last hour, by state and outcome",
        "state",
        "outcome",
    ),
    "worker_deliveries_last_hour": ("Deliveries created within the last hour, by state", "state"),
    "worker_drafts_waiting": ("Replies that wait for a person", "agent"),
    "worker_oldest_draft_seconds": ("Age of the oldest of them", "agent"),
    "worker_drafts_decided_last_hour": (
        "Drafts about which somebody decided within the last hour",
        "decision",
    ),
    "worker_draft_edits_last_hour": (
        "Edited drafts of the last hour of which at most that share has changed",
        "share",
    ),
    "worker_tokens_today": ("Tokens of the calls made since midnight UTC", "agent", "direction"),
    "worker_opted_out": ("People who have opted out, by the source of the newest entry", "source"),
    "worker_queue_entries": (
        "Entries at the broker by queue; unacked = taken by a worker and not finished",
        "queue",
    ),
    "worker_misplaced_messages": (
        "Messages on queues that no worker takes: their sender forgot or misspelt the queue",
        "queue",
    ),
    "worker_scrape_error": ("1 if this part could not be read, or not in time", "part"),
    "worker_scrape_seconds": ("Duration of the last read of a part", "part"),
}
"""Name -> help, then the names of its labels."""
Samples: TypeAlias = Iterable[tuple[str, tuple[str, ...], float]]
"""Name, values of the labels, value."""
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
            samples: Samples | None = None
            try:
                samples = list(ask())
            except Exception as error:  # noqa: BLE001 - one part fails alone: the others matter all the more
                why = str(error) if isinstance(error, WorkerError) else type(error).__name__
                log.warning("metrics.part_failed", part=part, error=why)
            self.answers[part] = (self._clock() - began_s, samples)


def _families() -> dict[str, GaugeMetricFamily]:
    return {
        name: GaugeMetricFamily(name, about, labels=labels)
        for name, (about, *labels) in METRICS.items()
    }


def parts_of(gauges: GaugeStore, broker_url: str) -> dict[str, Callable[[], Samples]]:
    """Return the parts of a scrape, each with a function that asks Postgres or the broker."""
    return {
        "broker": lambda: _each("queue_entries", waiting_entries(broker_url, QUEUES).items()),
        "misplaced": lambda: _each("misplaced_messages", misplaced_entries(broker_url).items()),
        "processes": lambda: _processes(gauges),
        "unanswered": lambda: _unanswered(gauges),
        "calls": lambda: _calls(gauges),
        "gates": lambda: _gates(gauges),
        "deliveries": lambda: _deliveries(gauges),
        "dead_letters": lambda: _dead_letters(gauges),
        "inbox": lambda: _inbox(gauges),
        "messages": lambda: _each("messages_last_hour", gauges.recent("messages_last_hour")),
        "replies": lambda: _each("deliveries_last_hour", gauges.recent("deliveries_last_hour")),
        "drafts": lambda: _drafts(gauges),
        "consents": lambda: _each("opted_out", gauges.opted_out().items()),
        "tokens": lambda: _each("tokens_today", gauges.recent("tokens_today")),
    }


def _each(name: str, rows: Iterable[Sequence[Any]]) -> Samples:
    """Return a sample for each row, which ends with the value; None = a sum of nothing."""
    return [(f"worker_{name}", tuple(labels), float(value or 0)) for *labels, value in rows]


def _processes(status: StatusStore) -> Samples:
    workers = status.workers()
    yield "worker_processes_alive", (), len(workers)
    yield "worker_processes_stalled", (), sum(one.stalled_s > 0 for one in workers)


def _unanswered(status: StatusStore) -> Samples:
    waiting, stopped = status.unanswered(), status.stopped()
    yield from _by_state("messages_unanswered", waiting, MessageState.PENDING, MessageState.IN_TURN)
    oldest = oldest_s(one for one in waiting if not one.stopped)
    yield "worker_oldest_unanswered_seconds", (), oldest or 0
    yield "worker_diverged_users", (), stopped.diverged
    yield "worker_erasures_unfinished", (), stopped.erasing


def _calls(status: StatusStore) -> Samples:
    work = status.in_work()
    yield "worker_turns_open", (), work.turns
    yield "worker_calls_in_flight", (), work.calls


def _gates(status: StatusStore) -> Samples:
    closed_s = status.gates()
    yield "worker_gates_closed", (), sum(one > 0 for one in closed_s.values())
    yield from _each("gate_closed_seconds", closed_s.items())


def _deliveries(status: StatusStore) -> Samples:
    waiting = status.undelivered()
    yield from _by_state("deliveries_undone", waiting, DeliveryState.PENDING, DeliveryState.SENDING)
    yield "worker_oldest_undelivered_seconds", (), oldest_s(waiting) or 0


def _drafts(gauges: GaugeStore) -> Samples:
    waiting = gauges.drafts()
    yield from _each("drafts_waiting", ((one.name, one.count) for one in waiting))
    yield from _each("oldest_draft_seconds", ((one.name, one.age_s) for one in waiting))
    decided = dict.fromkeys(Decision, 0) | dict(gauges.recent("drafts_decided_last_hour"))
    yield from _each("drafts_decided_last_hour", decided.items())
    yield from _each("draft_edits_last_hour", gauges.recent("draft_edits_last_hour"))


def _dead_letters(status: StatusStore) -> Samples:
    by_reason = status.dead_letters()
    yield "worker_dead_letters_open", (), sum(by_reason.values())
    yield from _each("dead_letters", by_reason.items())


def _inbox(status: StatusStore) -> Samples:
    rows = status.inbox()
    yield "worker_inbox_messages", (), rows.count if rows else 0
    yield "worker_oldest_inbox_seconds", (), rows.age_s if rows else 0


def _by_state(name: str, waiting: Iterable[Waiting], *states: str) -> Samples:
    # A state in which nothing waits is shown as 0: a series that vanishes ends no alert.
    for state in states:
        yield f"worker_{name}", (state,), sum(one.count for one in waiting if one.state == state)
