"""Meters that count, for Prometheus: one registry for the threads of one process."""

import threading
from collections.abc import Callable
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from worker.observability.metrics import Meters

QUEUE_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
TELNYX_S: Final = (0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 45, 60, 90)
OWN_S: Final = (0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class PrometheusMeters(Meters):
    """Counts. Children without a choice of names are there from the start, at zero."""

    def __init__(self) -> None:
        # A second series for each, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._elsewhere = threading.local()
        """`seconds` that this thread's turn has spent in POSTs and tools so far."""
        self._accepted = self._counter(
            "worker_messages_accepted", "Envelopes that have a row in messages", "result"
        )
        self._refused = self._counter(
            "worker_envelopes_refused", "Envelopes that became dead letters", "reason"
        )
        self._posts = self._counter(
            "worker_telnyx_posts",
            "POSTs to the Responses endpoint, by outcome and HTTP status",
            *("agent", "outcome", "status"),
        )
        self._repeats = self._counter(
            "worker_telnyx_repeats", "POSTs that repeat an earlier one of their round", "agent"
        )
        self._tokens = self._counter(
            "worker_tokens", "Tokens, as Telnyx counted them", "agent", "direction"
        )
        self._tool_runs = self._counter("worker_tool_runs", "Runs of tools", "tool", "state")
        self._conversations = self._counter(
            "worker_conversation_failures", "Turns that wait for Telnyx's conversations", "error"
        )
        self._settled = self._counter(
            "worker_turns_settled",
            "Claims on turns by what followed, and the outcome of the call before it",
            *("agent", "plan", "outcome"),
        )
        self._fenced = self._counter(
            "worker_stale_leases", "Work that another worker had taken over", "work"
        )
        self._deliveries = self._counter(
            "worker_delivery_attempts",
            "Attempts to deliver, by channel or route (`route:NAME`) and what followed",
            *("channel", "state"),
        )
        self._queue = self._histogram(
            "worker_queue_seconds", "From a message's commit to its turn's claim", QUEUE_S
        )
        self._telnyx = self._histogram(
            "worker_telnyx_seconds", "One POST to the Responses endpoint", TELNYX_S, "agent"
        )
        self._own = self._histogram(
            "worker_own_seconds", "A claim on a turn, less its POSTs and tools", OWN_S
        )
        self._slots = Gauge(
            "worker_turn_slots",
            "Turns that this process could start now, and those that run",
            ["state"],
            registry=self.registry,
        )
        for result in ("fresh", "repeated", "conflict"):
            self._accepted.labels(result)
        for work in ("turn", "delivery"):
            self._fenced.labels(work)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    def show_slots(self, *, free: Callable[[], int], taken: Callable[[], int]) -> None:
        """Ask for the slots at each scrape."""
        self._slots.labels("free").set_function(free)
        self._slots.labels("taken").set_function(taken)

    def know(self, *, agents: tuple[str, ...]) -> None:
        """Show these agents' plain counters at zero, so that their first increase is one."""
        for agent in agents:
            self._repeats.labels(agent)
            for outcome in ("Done", "none"):  # an alert counts them, and each may be a rare one
                self._settled.labels(agent, "GiveUp", outcome)
            for direction in ("input", "output"):
                self._tokens.labels(agent, direction)

    def accepted(self, result: str) -> None:  # noqa: D102 - as in Meters, and so below
        self._accepted.labels(result).inc()

    def refused(self, reason: str) -> None:  # noqa: D102
        self._refused.labels(reason).inc()

    def waited(self, seconds: float) -> None:  # noqa: D102
        self._queue.observe(seconds)

    def posted(  # noqa: D102
        self, agent: str, outcome: str, *, status: int | None, seconds: float
    ) -> None:
        self._posts.labels(agent, outcome, "none" if status is None else str(status)).inc()
        self._telnyx.labels(agent).observe(seconds)
        self._was_elsewhere(seconds)

    def repeated(self, agent: str) -> None:  # noqa: D102
        self._repeats.labels(agent).inc()

    def used(self, agent: str, *, input_tokens: int, output_tokens: int) -> None:  # noqa: D102
        self._tokens.labels(agent, "input").inc(input_tokens)
        self._tokens.labels(agent, "output").inc(output_tokens)

    def ran_tools(self, seconds: float) -> None:  # noqa: D102
        self._was_elsewhere(seconds)

    def ran_tool(self, tool: str, state: str) -> None:  # noqa: D102
        self._tool_runs.labels(tool, state).inc()

    def conversation_failed(self, error: str) -> None:  # noqa: D102
        self._conversations.labels(error).inc()

    def settled(self, agent: str, plan: str, outcome: str) -> None:  # noqa: D102
        self._settled.labels(agent, plan, outcome).inc()

    def worked(self, seconds: float) -> None:  # noqa: D102
        elsewhere_s = getattr(self._elsewhere, "seconds", 0.0)
        self._elsewhere.seconds = 0.0
        self._own.observe(max(seconds - elsewhere_s, 0.0))

    def fenced(self, work: str) -> None:  # noqa: D102
        self._fenced.labels(work).inc()

    def delivered(self, channel: str, state: str) -> None:  # noqa: D102
        self._deliveries.labels(channel, state).inc()

    def _was_elsewhere(self, seconds: float) -> None:
        self._elsewhere.seconds = getattr(self._elsewhere, "seconds", 0.0) + seconds
