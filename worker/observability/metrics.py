"""The metrics of one process. They are always counted, and served if METRICS_PORT is set.

Label values are names from the configuration or the code: never a text, an address, or a value that
a producer or a model may choose.
"""

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

# Otherwise each counter has a second series, `..._created`, that nobody queries.
disable_created_metrics()  # type: ignore[no-untyped-call]

# A registry of our own: libraries that count with prometheus_client use its default one.
REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

# Buckets: up to 15 minutes for a queue behind a closed gate, 90 s for a call, and a few
# milliseconds for our own work.
QUEUE_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
TELNYX_S: Final = (0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 45, 60, 90)
OWN_S: Final = (0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, labels, registry=REGISTRY)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(name, text, labels, buckets=buckets, registry=REGISTRY)


ACCEPTED: Final = _counter(
    "worker_messages_accepted", "Envelopes that have a row in messages", "result"
)
REFUSED: Final = _counter(
    "worker_envelopes_refused", "Envelopes that became dead letters", "reason"
)
IGNORED: Final = _counter(
    "worker_requests_ignored",
    "What producers asked of Celery and do not get, such as link",
    "asked",
)
EVENTS: Final = _counter(
    "worker_messaging_events", "Telnyx's messaging webhooks: what they were, or why ignored", "kind"
)
MAILS: Final = _counter(
    "worker_mails", "Mails that came in: the rule that recognised a machine, or none", "rule"
)
REQUESTS: Final = _counter(
    "worker_gateway_requests", "Requests to the gateway", "endpoint", "status"
)
QUEUED: Final = _counter(
    "worker_gateway_queued", "What the gateway queued, as Postgres was away", "task"
)
CONTROL_DROPPED: Final = _counter(
    "worker_control_messages_dropped", "Remote control messages that no worker obeys", "reason"
)
POSTS: Final = _counter(
    "worker_telnyx_posts",
    "POSTs to the Responses endpoint, by outcome and HTTP status",
    *("agent", "outcome", "status"),
)
REPEATS: Final = _counter(
    "worker_telnyx_repeats", "POSTs that repeat an earlier one of their round", "agent"
)
TOKENS: Final = _counter("worker_tokens", "Tokens, as Telnyx counted them", "agent", "direction")
TOOL_RUNS: Final = _counter("worker_tool_runs", "Runs of tools", "tool", "state")
CONVERSATION_FAILURES: Final = _counter(
    "worker_conversation_failures", "Turns that wait for Telnyx's conversations", "error"
)
SETTLED: Final = _counter(
    "worker_turns_settled",
    "Claims on turns by what followed, and the outcome of the call before it",
    *("agent", "plan", "outcome"),
)
LOOPS: Final = _counter(
    "worker_loops_broken", "Channel users paused by the loop breaker, by its rule", "rule"
)
HAND_OVERS: Final = _counter(
    "worker_hand_overs", "Channel users handed over to our staff", "agent", "reason"
)
STALE_LEASES: Final = _counter(
    "worker_stale_leases", "Work that another worker had taken over", "work"
)
POSTGRES_CHANGES: Final = _counter(
    "worker_postgres_changes",
    "What heartbeats noticed of Postgres: its clock jumped, or it was replaced by another one",
    "kind",
)
DELIVERIES: Final = _counter(
    "worker_delivery_attempts",
    "Attempts to deliver, by channel or route (`route:NAME`) and what followed",
    *("channel", "state"),
)
RECEIPTS: Final = _counter(
    "worker_receipts",
    "What a provider reported of text messages, by channel and its word",
    *("channel", "receipt"),
)
CONSENTS: Final = _counter(
    "worker_consent_changes",
    "People who opted out or in again, by how it was known",
    *("source", "state"),
)
MAILBOX_FAILURES: Final = _counter(
    "worker_mailbox_failures", "Looks at the mailbox that failed, by their step", "step"
)
QUEUE: Final = _histogram(
    "worker_queue_seconds", "From a message's commit to its turn's claim", QUEUE_S
)
TELNYX: Final = _histogram(
    "worker_telnyx_seconds", "One POST to the Responses endpoint", TELNYX_S, "agent"
)
OWN: Final = _histogram("worker_own_seconds", "A claim on a turn, less its POSTs and tools", OWN_S)
REQUEST: Final = _histogram(
    "worker_gateway_seconds", "One request to the gateway", OWN_S, "endpoint"
)
SLOTS: Final = _gauge(
    "worker_turn_slots", "Turns that this process could start now, and those that run", "state"
)
LOOK_AGE: Final = _gauge(
    "worker_mailbox_look_age_seconds",
    "Since this process last dealt with all mails of its mailbox",
    "folder",
)

# At zero from the start: `increase()` does not see a first increment that creates its series.
for _result in ("fresh", "repeated", "conflict"):
    ACCEPTED.labels(_result)
CONSENTS.labels("telnyx_block", "stopped")
for _work in ("turn", "delivery"):
    STALE_LEASES.labels(_work)
for _kind in ("clock", "replaced"):
    POSTGRES_CHANGES.labels(_kind)


def show_agents(names: tuple[str, ...]) -> None:
    """Show the plain counters of these agents at zero, so that the first increment is seen."""
    for agent in names:
        REPEATS.labels(agent)
        # The alert on given-up turns counts these two outcomes, and each may be rare.
        for outcome in ("Done", "none"):
            SETTLED.labels(agent, "GiveUp", outcome)
        for direction in ("input", "output"):
            TOKENS.labels(agent, direction)
