"""The bars. A bar that is not met stays red: neither it nor the floor is changed to meet it."""

from dataclasses import dataclass
from typing import Literal

SOCKET_TIMEOUT_S = 15.0
"""The longest of the service's: `tcp_user_timeout` of worker/store/database.py."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """The value to be reached."""

    key: str
    what: str
    side: Literal["<=", ">="]
    limit: float
    unit: str

    def is_met(self, value: float) -> bool:
        """Return whether a measured value meets the bar."""
        return value <= self.limit if self.side == "<=" else value >= self.limit

    def __str__(self) -> str:
        sign = {"<=": "≤", ">=": "≥"}[self.side]
        return f"{sign} {self.limit:g} {self.unit}"


def _most(key: str, limit: float, unit: str, what: str) -> Bar:
    return Bar(key=key, what=what, side="<=", limit=limit, unit=unit)


def _least(key: str, limit: float, unit: str, what: str) -> Bar:
    return Bar(key=key, what=what, side=">=", limit=limit, unit=unit)


BARS = (
    _most("cpu_floor", 1.5, "x floor", "worker CPU per message, upstream latency 0"),
    _most("cpu_naive", 1.0, "x naive", "the same"),
    _most("cpu_peer", 1.0, "x procrastinate", "the same, lists of 16, beside a queue with order"),
    _most("cpu_before", 0.65, "x before", "the same, beside this service before that work"),
    _most("cpu_lists_before", 0.5, "x before", "the same, lists of 16"),
    _most("postgres_before", 0.7, "x before", "Postgres' CPU per message"),
    _most("wal_kb", 3.1, "KB", "Postgres' WAL per message"),
    _most("redis_ms", 0.12, "ms", "Redis' CPU per message"),
    _most("redis_lists_ms", 0.05, "ms", "the same, lists of 16"),
    _most("first_contact", 2.0, "x later", "CPU of a person's first message, worker and Postgres"),
    _most("sms_webhook", 1.15, "x webhook", "worker CPU per message, replies as text messages"),
    _least("rate_floor", 0.65, "x floor", "messages per second, upstream latency 0"),
    _least("rate_before", 1.5, "x before", "the same"),
    _least("per_gb_naive", 50, "x naive", "answers in flight per GB of memory"),
    _most("rss_1000", 300, "MB", "one process with 1000 answers in flight"),
    _least("slow_floor", 0.9, "x floor", "messages per second, latency 2 s, 500 in flight"),
    _least("ideal_1000", 0.7, "x ideal", "the same, 1000 in flight, beside 500 per second"),
    _most("rss_1000_slow", 220, "MB", "the process that does so"),
    _least("two_one", 1.6, "x one", "two processes, latency 2 s, 500 in flight each"),
    _most("cpu_1000_50", 1.25, "x 50", "worker CPU per message, 1000 in flight"),
    _most("p50_floor", 3, "x floor", "added latency at half load, p50"),
    _most("p99_floor", 3, "x floor", "the same, p99"),
    _most("p50_before", 1.0, "x before", "the same, p50, at half of its own load"),
    _most("p99_ms", 50, "ms", "the same, p99"),
    _most("grown_empty", 1.2, "x empty", "CPU per message, worker and Postgres, grown tables"),
    _most("sweep_ms", 5, "ms", "a sweep, 100,000 channel users, nothing due (database time)"),
    _most("fair", 2, "x alone", "p95 of an agent's replies while 10,000 wait for another agent"),
    _most("fair_threads", 2, "x alone", "p95 of replies beside 10,000 threads of one address"),
    _most("fair_numbers", 2, "x alone", "p95 of replies beside 10,000 numbers of one block"),
    _most("first_s", 1.5, "s", "the first message after a start"),
    _most(
        "first_after_cut_s",
        1.5 + SOCKET_TIMEOUT_S,
        "s",
        "the first message after every connection was cut silently",
    ),
    _least("accept_floor", 0.7, "x floor", "envelopes accepted per second, no turn due"),
    _most("accept_rss", 1.1, "x before", "RSS after accepting 10,000"),
    _least("send_many", 3, "x send_task", "envelopes sent per second by one process"),
    _least("gateway_rate", 500, "/s", "webhooks that one gateway process stores per second"),
    _most("gateway_p99_ms", 100, "ms", "from a webhook to its answer, p99, at that rate"),
    _most("gateway_floor", 2, "x floor", "gateway CPU per webhook, beside Starlette and an insert"),
    _least("mails_rate", 100, "/s", "mails read and screened per second of one core"),
    _most("mail_25mb", 150, "MB", "memory of a process that reads a mail of 25 MB"),
    _most("idle_cpu", 1, "% of a core", "CPU of 60 idle worker processes together"),
    _most("idle_connections", 120, "connections", "60 idle worker processes to Postgres"),
    _most("foreign", 1.5, "x quiet", "worker CPU per message beside foreign load of one core"),
    _most("sql_p50_ms", 50, "ms", "SQL producer to claimed turn, Redis stopped, p50"),
)
BY_KEY = {bar.key: bar for bar in BARS}
