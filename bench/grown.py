"""Measures growth: old messages, channel users, one long conversation, a backlog."""

import time
from contextlib import ExitStack
from statistics import median
from uuid import uuid4

from bench import machine
from bench.fill import fill
from bench.plans import caught, explain
from bench.report import Report
from bench.rounds import Round, interleaved, middle, ratios, run_round, warm_up
from bench.stage import Stage, Subject
from bench.variants import OURS
from worker.domain.ids import WorkerId
from worker.store.database import Database
from worker.store.delivery.deliveries import DeliveryStore
from worker.store.turns.due_users import SweepStore
from worker.store.workers import WorkerStore

ANSWERS = 200
USERS = 100_000
SWEEPS = 20


def measure(stage: Stage, report: Report, *, rounds: int, messages: int, each: int) -> None:
    """Compare grown tables (`each` old messages of 100,000 users) with empty ones."""
    with ExitStack() as stack:
        empty = stack.enter_context(stage.subject(OURS, answers=ANSWERS, label="empty"))
        grown = stack.enter_context(
            stage.subject(OURS, answers=ANSWERS, label="grown", processes=0)
        )
        began = time.monotonic()
        fill(grown.connection, users=USERS, each=each)
        filled_s = time.monotonic() - began
        stage.start_process(grown, env={})
        for subject in (empty, grown):
            warm_up(stage, subject)
            run_round(stage, subject, messages=messages)
        done = interleaved(stage, (empty, grown), rounds=rounds, messages=messages)
        report.add(
            "grown_empty",
            ratios(done["grown"], done["empty"], both),
            f"{USERS * each:,} old messages (filled in {filled_s:.0f} s); worker + Postgres: "
            + ", ".join(
                f"{name} {middle(found, lambda one: one.cpu_ms):.2f} +"
                f" {middle(found, lambda one: one.postgres_ms):.2f} ms"
                for name, found in done.items()
            ),
        )


def both(one: Round) -> float:
    """Worker and Postgres, CPU per message."""
    return one.cpu_ms + one.postgres_ms


def sweep(stage: Stage, report: Report) -> None:
    """Explain the statements of one sweep over 100,000 users, half of them due tomorrow."""
    with stage.subject(OURS, answers=ANSWERS, processes=0) as subject:
        fill(subject.connection, users=USERS, each=1, waiting=True)
        took_ms = sweep_ms(subject)
        report.add("sweep_ms", took_ms, "planning and execution of all its statements")


def sweep_ms(subject: Subject) -> list[float]:
    """Run a sweep's store methods once, then explain their statements, a few times."""
    database = Database(subject.database_url)
    me = WorkerStore(database, worker_id=WorkerId(uuid4()), host="bench", pid=1, alive_s=60)
    me.beat()
    with caught() as statements:
        sweeps = SweepStore(database, wake_ttl_s=10)
        sweeps.look(grace_s=1)
        swept = sweeps.pick(limit=ANSWERS, held={}, most=ANSWERS, most_surplus=ANSWERS)
        overdue = DeliveryStore(database, lease_s=60).due(limit=8, grace_s=1)
    database.close()
    if swept.due or list(overdue):
        raise RuntimeError("somebody is due, so this is no empty sweep")
    return [
        sum(explain(subject.connection, one, run=True).took_ms or 0.0 for one in statements)
        for _ in range(SWEEPS)
    ]


def long_conversation(stage: Stage, report: Report) -> None:
    """Measure a user with 10,000 old messages, 250 of them in the open conversation."""
    with stage.subject(OURS, answers=ANSWERS, processes=0) as subject:
        fill(subject.connection, users=1, each=10_000)
        subject.connection.execute("""
            WITH closed AS (INSERT INTO conversations (channel_user_id, agent, closed_at)
                SELECT channel_user_id, 'default', service_now() FROM turns LIMIT 1
                RETURNING id, channel_user_id)
            UPDATE turns SET conversation_id = closed.id FROM closed WHERE turns.id <= 9750
        """)
        subject.connection.execute("VACUUM ANALYZE")
        stage.start_process(subject, env={})
        warm_up(stage, subject)
        fresh, old = [], []
        for _ in range(20):
            fresh.append(run_round(stage, subject, messages=1).added(50))
            old.append(run_round(stage, subject, messages=1, users=1).added(50))
    report.facts["added_ms_after_10000_messages"] = [round(median(old), 1), round(median(fresh), 1)]


def backlog(stage: Stage, report: Report) -> None:
    """Answer messages for a while with a backlog of 50,000, and with one of 2,000."""
    found = {}
    for waiting in (50_000, 2_000):
        with stage.subject(OURS, answers=ANSWERS, processes=0) as subject:
            make_wait(subject, waiting)
            subject.connection.execute("VACUUM ANALYZE")
            process = stage.start_process(subject, env={})
            cpu_s, began = machine.cpu_s(process.pid), time.monotonic()
            before = subject.count_after(0)  # it may have begun
            while (answered := subject.count_after(0) - before) < min(waiting, 2_000) - before:
                time.sleep(0.2)
            spent_s, took_s = machine.cpu_s(process.pid) - cpu_s, time.monotonic() - began
        found[f"{waiting} waiting"] = [
            round(answered / took_s),
            round(spent_s * 1000 / answered, 2),
        ]
    report.facts["backlog: messages per second, worker ms per message"] = found


def make_wait(subject: Subject, users: int, *, agent: str = "default") -> None:
    """Insert users that wait for an agent, each with a conversation and one message."""
    subject.connection.execute(_WAITING, {"users": users, "agent": agent})


_WAITING = """
WITH people AS (
    INSERT INTO channel_users
        (channel, address, agent, next_seq, due_at, waiting_since, waiting_due_at)
    SELECT 'web', 'w' || gen_random_uuid(), %(agent)s, 2, service_now(), service_now(),
        service_now()
    FROM generate_series(1, %(users)s) n RETURNING id
), mapped AS (
    INSERT INTO conversations (channel_user_id, agent, telnyx_conversation_id)
    SELECT id, %(agent)s, gen_random_uuid() FROM people
)
INSERT INTO messages (channel_user_id, message_id, seq, order_at, agent, envelope)
SELECT id, 'waits', 1, service_now(), %(agent)s,
    jsonb_build_object('version', 1, 'channel', 'web', 'user', id, 'message_id', 'waits',
        'text', '#' || id || ' I have been waiting')
FROM people
"""
