"""The gauges of `worker metrics`: their names and help, and the questions that answer them."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final, TypeAlias

from worker.bootstrap.status import Counts
from worker.domain.states import DeliveryState, MessageState
from worker.queue.broker import QUEUES, waiting_entries
from worker.store.reports.status import oldest_s

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
    "worker_tokens_today": ("Tokens of the calls made since midnight UTC", "agent", "direction"),
    "worker_queue_entries": (
        "Entries at the broker by queue; unacked = taken by a worker and not finished",
        "queue",
    ),
    "worker_scrape_error": ("1 if this part could not be read, or not in time", "part"),
    "worker_scrape_seconds": ("Duration of the last read of a part", "part"),
}
"""Name -> help, then the names of its labels."""
Samples: TypeAlias = Iterable[tuple[str, tuple[str, ...], float]]
"""Name, values of the labels, value."""


def parts_of(counts: Counts, broker_url: str) -> dict[str, Callable[[], Samples]]:
    """Return the parts of a scrape, each with a function that asks Postgres or the broker."""
    of_postgres = {
        "processes": _processes,
        "unanswered": _unanswered,
        "calls": _calls,
        "gates": _gates,
        "deliveries": _deliveries,
        "dead_letters": _dead_letters,
        "inbox": _inbox,
        "messages": _messages,
        "replies": _replies,
        "tokens": _tokens,
    }
    return {
        "broker": partial(_entries, broker_url),
        **{name: partial(ask, counts) for name, ask in of_postgres.items()},
    }


def _entries(broker_url: str) -> Samples:
    for queue, entries in waiting_entries(broker_url, QUEUES).items():
        yield "worker_queue_entries", (queue,), entries


def _processes(counts: Counts) -> Samples:
    workers = counts.status.workers()
    yield "worker_processes_alive", (), len(workers)
    yield "worker_processes_stalled", (), sum(one.stalled_s > 0 for one in workers)


def _unanswered(counts: Counts) -> Samples:
    waiting, stopped = counts.status.unanswered(), counts.status.stopped()
    for state in (MessageState.PENDING, MessageState.IN_TURN):
        count = sum(one.count for one in waiting if one.state == state)
        yield "worker_messages_unanswered", (state.value,), count
    oldest = oldest_s(one for one in waiting if not one.stopped)
    yield "worker_oldest_unanswered_seconds", (), oldest or 0
    yield "worker_diverged_users", (), stopped.diverged
    yield "worker_erasures_unfinished", (), stopped.erasing


def _calls(counts: Counts) -> Samples:
    work = counts.status.in_work()
    yield "worker_turns_open", (), work.turns
    yield "worker_calls_in_flight", (), work.calls


def _gates(counts: Counts) -> Samples:
    closed_s = counts.status.gates()
    yield "worker_gates_closed", (), sum(one > 0 for one in closed_s.values())
    for gate, seconds in closed_s.items():
        yield "worker_gate_closed_seconds", (gate,), seconds


def _deliveries(counts: Counts) -> Samples:
    waiting = counts.status.undelivered()
    for state in (DeliveryState.PENDING, DeliveryState.SENDING):
        count = sum(one.count for one in waiting if one.state == state)
        yield "worker_deliveries_undone", (state.value,), count
    yield "worker_oldest_undelivered_seconds", (), oldest_s(waiting) or 0


def _dead_letters(counts: Counts) -> Samples:
    by_reason = counts.status.dead_letters()
    yield "worker_dead_letters_open", (), sum(by_reason.values())
    for reason, count in by_reason.items():
        yield "worker_dead_letters", (reason,), count


def _inbox(counts: Counts) -> Samples:
    rows = counts.status.inbox()
    yield "worker_inbox_messages", (), rows.count if rows else 0
    yield "worker_oldest_inbox_seconds", (), rows.age_s if rows else 0


def _messages(counts: Counts) -> Samples:
    for state, outcome, count in counts.gauges.messages_last_hour():
        yield "worker_messages_last_hour", (state, outcome), count


def _replies(counts: Counts) -> Samples:
    for state, count in counts.gauges.deliveries_last_hour():
        yield "worker_deliveries_last_hour", (state,), count


def _tokens(counts: Counts) -> Samples:
    for agent, direction, tokens in counts.gauges.tokens_today():
        yield "worker_tokens_today", (agent, direction), float(tokens or 0)
