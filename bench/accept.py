"""Measures accepting alone, with messages that are due in an hour, and sending alone."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

from celery import Celery

from bench import machine
from bench.load import publish
from bench.orders import envelopes
from bench.report import Report
from bench.stage import Stage, Subject, wait_until_quiet
from bench.variants import FLOOR, OURS, USERS
from message_worker_client import Producer
from tests.support.processes import eventually

ANSWERS = 200
"""In flight at most, as in the default settings."""
ROUNDS, EACH = 20, 500
"""10,000 envelopes for each of the two, in one process from the first to the last."""
WARM_UP_ROUNDS = 5
SENDING_ROUNDS, MANY, ONE_BY_ONE = 3, 10_000, 1000
LATER = """
[channels.web]
reorder_s = 0
debounce_s = 3600
max_wait_s = 3600
"""
LAST = "SELECT coalesce(max(accepted_at), '-infinity')::text FROM messages"
SINCE = """
SELECT count(*), extract(epoch FROM max(accepted_at) - min(accepted_at))::float FROM messages
WHERE accepted_at > %s
"""
APPS: dict[str, Celery] = {}
"""Of the producer, one for each broker."""
ACCEPT_FLOOR = replace(
    FLOOR,
    name="accept_floor",
    app="bench.accept_floor",
    tables=f"""{FLOOR.tables};
        ALTER TABLE messages ADD accepted_at timestamptz NOT NULL DEFAULT statement_timestamp()""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepting:
    """The result of one variant in one round."""

    per_second: float
    cpu_ms: float
    """CPU of the worker's process, per envelope."""


def measure(stage: Stage, report: Report) -> None:
    """Let floor and ours accept the same envelopes alternately; then send without a worker."""
    agents = stage.folder / "later.toml"
    agents.write_text(LATER)
    with ExitStack() as stack:
        subjects = [
            stack.enter_context(
                stage.subject(one, answers=ANSWERS, env={"AGENTS_FILE": str(agents)})
            )
            for one in (ACCEPT_FLOOR, OURS)
        ]
        # Threads that have not worked yet would count as memory that grows.
        for _ in range(WARM_UP_ROUNDS):
            for subject in subjects:
                accept(stage, subject)
        (pid,) = (process.pid for process in subjects[1].processes)
        before_mb = machine.rss_mb(pid)
        done = [[accept(stage, subject) for subject in subjects] for _ in range(ROUNDS)]
        after_mb = machine.rss_mb(pid)
    report.add(
        "accept_floor",
        [ours.per_second / floor.per_second for floor, ours in done],
        ", ".join(
            f"{name} {median(one.per_second for one in found):.0f}/s,"
            f" {median(one.cpu_ms for one in found):.2f} ms"
            for name, found in zip(("floor", "ours"), zip(*done, strict=True), strict=True)
        ),
    )
    report.add("accept_rss", [after_mb / before_mb], f"{before_mb:.1f} to {after_mb:.1f} MB")
    _sending(stage, report)


def accept(stage: Stage, subject: Subject) -> Accepting:
    """Queue all envelopes, and wait until all of them are acknowledged."""
    order = stage.order(subject, messages=EACH, rate=None, users=USERS)
    (process,) = subject.processes
    (before,) = subject.connection.execute(LAST).fetchone() or ("-infinity",)
    cpu_s = machine.cpu_s(process.pid)
    publish(order, APPS)
    wait_until_quiet(subject)
    accepted = partial(_since, subject, before)
    # An entry that was just taken is for a moment neither queued nor noted as taken.
    if not eventually(lambda: accepted()[0] == EACH):
        raise RuntimeError(f"{subject.label}: {accepted()[0]} of {EACH} accepted")
    spent_s = machine.cpu_s(process.pid) - cpu_s
    took_s = accepted()[1]
    return Accepting(per_second=(EACH - 1) / took_s, cpu_ms=spent_s * 1000 / EACH)


def _since(subject: Subject, before: str) -> tuple[int, float]:
    """Count what was accepted since a time, and the seconds from the first to the last."""
    return subject.connection.execute(SINCE, [before]).fetchone() or (0, 0.0)


def _sending(stage: Stage, report: Report) -> None:
    """Send with `send_many` and with `send_task`, alternately, from this process."""
    rates = []
    with stage.subject(OURS, answers=ANSWERS, processes=0) as subject:
        many = stage.order(subject, messages=MANY, rate=None, users=USERS)
        one_by_one = stage.order(subject, messages=ONE_BY_ONE, rate=None, users=USERS)
        messages = envelopes(many)
        with Producer(broker_url=subject.broker_url) as producer:
            producer.send_many(messages[:1])
            for _ in range(SENDING_ROUNDS):
                began = time.time()
                producer.send_many(messages)
                many_s = time.time() - began
                began = publish(one_by_one, {})[0]
                rates.append((MANY / many_s, ONE_BY_ONE / (time.time() - began)))
                subject.redis.flushdb()
    report.add(
        "send_many",
        [fast / slow for fast, slow in rates],
        f"send_many {median(fast for fast, _ in rates):.0f}/s,"
        f" send_task {median(slow for _, slow in rates):.0f}/s",
    )
