"""Runs one round: publishes messages, waits for the replies, and reads CPU and memory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench import machine
from bench.stage import Stage, Subject, wait_until_quiet
from bench.variants import USERS

ROUND_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The result of one variant in one round."""

    messages: int
    seconds: float
    """From the first publish to the last reply row."""
    cpu_ms: float
    """CPU of the worker's processes, per message."""
    postgres_ms: float
    """CPU of all of Postgres, per message."""
    wal_kb: float
    """WAL of all of Postgres per message, with the whole pages that follow a checkpoint."""
    redis_ms: float
    """CPU of Redis, per message."""
    upstream_share: float
    """CPU of the upstream, as a share of one core: near 1 it would be the bottleneck."""
    added_ms: tuple[float, ...]
    """Per message: from publish to reply row, minus the upstream's time; sorted."""

    @property
    def per_second(self) -> float:
        """Return the messages per second."""
        return self.messages / self.seconds

    def added(self, percent: float) -> float:
        """Return a percentile of `added_ms`."""
        return percentile(self.added_ms, percent)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of sorted values; it is one of them."""
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(int(rank), 1) - 1]


def run_round(
    stage: Stage,
    subject: Subject,
    *,
    messages: int,
    rate: float | None = None,
    hold: bool = False,
    users: int = USERS,
    at_peak: Callable[[], None] | None = None,
) -> Round:
    """Run one round. `hold`: answers are held back until all messages are in flight at once.

    `at_peak` is called then. Raises ValueError for more messages than users: two that wait have one
    reply.
    """
    if messages > users:
        raise ValueError(f"{messages} messages of {users} users in one round")
    stage.upstream.control(forget=True, hold=hold)
    before = subject.last_reply()
    order = stage.order(subject, messages=messages, rate=rate, users=users)
    cpu, wal, began = _cpus(stage, subject), subject.wal_bytes(), time.monotonic()
    producer = subject.producer or stage.producer
    producer.begin(order)
    if hold:
        wait_for(subject, lambda: stage.upstream.stats()["in_flight"] >= messages)
        if at_peak is not None:
            at_peak()
        stage.upstream.control(hold=False)
    published = producer.end()
    wait_for(subject, lambda: subject.count_after(before) >= messages)
    wait_until_quiet(subject)
    spent_s = [after - was for after, was in zip(_cpus(stage, subject), cpu, strict=True)]
    elapsed_s = time.monotonic() - began
    finished = subject.finished(before)
    took_s = stage.upstream.stats()["took_s"]
    numbers = range(order.first, order.first + messages)
    added = sorted(
        (finished[f"m-{number}"] - at - took_s[str(number)]) * 1000
        for number, at in zip(numbers, published, strict=True)
    )
    return Round(
        messages=messages,
        seconds=max(finished.values()) - published[0],
        cpu_ms=spent_s[0] * 1000 / messages,
        postgres_ms=spent_s[1] * 1000 / messages,
        wal_kb=(subject.wal_bytes() - wal) / 1000 / messages,
        redis_ms=spent_s[3] * 1000 / messages,
        upstream_share=spent_s[2] / elapsed_s,
        added_ms=tuple(added),
    )


def warm_up(stage: Stage, subject: Subject) -> None:
    """Let every thread open its connections, with the maximum number of messages in flight."""
    messages = subject.answers * len(subject.processes)
    run_round(stage, subject, messages=messages, hold=len(subject.processes) == 1)


def interleaved(
    stage: Stage, subjects: Sequence[Subject], *, rounds: int, **options: object
) -> dict[str, list[Round]]:
    """Run A B C A B C …; return the rounds of each variant by name, the n-th ones as neighbours."""
    done: dict[str, list[Round]] = {subject.label: [] for subject in subjects}
    for _ in range(rounds):
        for subject in subjects:
            done[subject.label].append(run_round(stage, subject, **options))  # type: ignore[arg-type]
    return done


def ratios(
    over: Sequence[Round], under: Sequence[Round], of: Callable[[Round], float]
) -> list[float]:
    """Return the ratio of each pair of neighbours."""
    return [of(one) / of(other) for one, other in zip(over, under, strict=True)]


def middle(rounds: Sequence[Round], of: Callable[[Round], float]) -> float:
    """Return the median of a value."""
    return median(of(one) for one in rounds)


def _cpus(stage: Stage, subject: Subject) -> tuple[float, ...]:
    return (
        sum(machine.cpu_s(process.pid) for process in subject.processes),
        machine.cpu_s(stage.postgres.pid),
        machine.cpu_s(stage.upstream.pid),
        machine.cpu_s(stage.redis.pid),
    )


def wait_for(subject: Subject, done: Callable[[], bool]) -> None:
    """Wait until `done` holds. Raises RuntimeError if a worker ended or it takes too long."""
    deadline = time.monotonic() + ROUND_TIMEOUT_S
    while not done():
        if not all(process.is_running for process in subject.processes):
            raise RuntimeError(f"{subject.label}: a worker process ended")
        if time.monotonic() > deadline:
            raise RuntimeError(f"not done in {ROUND_TIMEOUT_S} s: {subject.standing()}")
        time.sleep(0.05)
