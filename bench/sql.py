"""Measures a SQL producer while Redis is down: from its commit to the claimed turn."""

import json
import time

import psycopg
from redis import Redis

from bench.orders import envelopes
from bench.report import Report
from bench.rounds import percentile
from bench.stage import Stage, Subject
from bench.variants import OURS, USERS
from tests.support.processes import eventually
from worker.sandbox.redis import EmbeddedRedis

ANSWERS = 50
MESSAGES = 200
WARM_UP = 20
ROUND_TIMEOUT_S = 30.0
ANSWERED = """
SELECT extract(epoch FROM t.opened_at)::float, extract(epoch FROM r.created_at)::float
FROM messages m JOIN turns t ON t.id = m.turn_id JOIN replies r ON r.turn_id = t.id
WHERE m.message_id = %s
"""


def measure(stage: Stage, report: Report) -> None:
    """Stop the Redis of a running worker; then queue one message after the other."""
    with (
        EmbeddedRedis(stage.folder / f"redis-{next(stage.numbers)}") as redis,
        Redis.from_url(redis.url) as client,
        stage.subject(OURS, answers=ANSWERS, processes=0) as subject,
    ):
        subject.broker_url, subject.redis = redis.url, client
        stage.start_process(subject, env={})
        _each_ms(stage, subject, messages=WARM_UP)
        redis.stop()
        times_ms = _each_ms(stage, subject, messages=MESSAGES)
    claimed, replied = (sorted(one) for one in zip(*times_ms, strict=True))
    report.add(
        "sql_p50_ms",
        [percentile(claimed, 50)],
        f"p99 {percentile(claimed, 99):.1f} ms; to the reply p50 {percentile(replied, 50):.1f} ms",
    )


def _each_ms(stage: Stage, subject: Subject, *, messages: int) -> list[tuple[float, float]]:
    """Queue messages, each after the answer to the previous one; return both times of each."""
    found = []
    url = subject.database_url
    with psycopg.connect(url, autocommit=True) as producer:
        order = stage.order(subject, messages=messages, rate=None, users=USERS)
        for message in envelopes(order):
            began = time.time()
            producer.execute("SELECT enqueue_message(%s::jsonb)", [json.dumps(message)])
            claimed_at, replied_at = _answered(subject, str(message["message_id"]))
            found.append(((claimed_at - began) * 1000, (replied_at - began) * 1000))
    return found


def _answered(subject: Subject, message_id: str) -> tuple[float, float]:
    rows: list[tuple[float, float]] = []

    def is_there() -> bool:
        rows[:] = subject.connection.execute(ANSWERED, [message_id]).fetchall()
        return bool(rows)

    if not eventually(is_there, timeout_s=ROUND_TIMEOUT_S):
        raise RuntimeError(f"{subject.label}: not answered in {ROUND_TIMEOUT_S} s")
    return rows[0]
