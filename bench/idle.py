"""Measures many worker processes that have nothing to do, or little: what a fleet costs by itself.

Real processes, started as compose starts them, on one Postgres and one Redis. Their CPU is read
from the scheduler, in nanoseconds: /proc/PID/stat counts in hundredths of a second.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import machine
from bench.report import Report
from bench.rounds import run_round
from bench.stage import Stage, Subject
from bench.variants import OURS

PROCESSES = 60
AT_ONCE = 4
"""Processes that start at the same time: with more, each takes longer than it is waited for."""
ANSWERS = 200
CALM_S = 65.0
"""After the start: connections that nobody needs any more are closed by then."""
WATCHED_S = 60.0
RATE = 300.0
LOADED_S = 10.0
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a time of a fleet took: CPU as a share of one core, the rest per second."""

    worker: float
    loops: float
    """Of that, the main threads: Celery's loop, with its timers and waits on Redis."""
    postgres: float
    redis: float
    transactions: float
    commands: dict[str, float]
    """Of Redis, by name."""
    connections: int
    """To Postgres, at the most."""
    locks: float
    """Of Postgres, at a time."""

    def fact(self) -> dict[str, object]:
        """Return it rounded, for the report."""
        return {
            "workers, % of a core": round(self.worker * 100, 2),
            "their main threads": round(self.loops * 100, 2),
            "Postgres, % of a core": round(self.postgres * 100, 2),
            "Redis, % of a core": round(self.redis * 100, 2),
            "transactions/s": round(self.transactions, 1),
            "Redis commands/s": round(sum(self.commands.values()), 1),
            "of these": {name: round(each, 1) for name, each in self.commands.items()},
            "connections": self.connections,
            "locks": round(self.locks, 1),
        }


def measure(stage: Stage, report: Report, *, processes: int = PROCESSES) -> None:
    """Start the fleet, watch it idle for a minute, then under a load that one process could do."""
    with stage.subject(OURS, answers=ANSWERS, processes=0) as subject:
        began = time.monotonic()
        start_fleet(stage, subject, processes)
        report.facts["seconds until the last was ready"] = round(time.monotonic() - began)
        time.sleep(CALM_S)
        idle = watch(stage, subject, lambda: time.sleep(_LOOK_S), seconds=WATCHED_S)
        report.add("idle_cpu", [idle.worker * 100], f"{processes} processes, {WATCHED_S:.0f} s")
        report.add("idle_connections", [float(idle.connections)])
        report.facts[f"{processes} idle processes"] = idle.fact()
        messages = int(RATE * LOADED_S)
        run_round(stage, subject, messages=messages // 3, rate=RATE)
        began, spent, wall = time.monotonic(), cpu_s(subject), machine.cpu_s(stage.postgres.pid)
        done = run_round(stage, subject, messages=messages, rate=RATE)
        elapsed_s = time.monotonic() - began
        report.facts[f"{processes} processes, {RATE:.0f} messages/s"] = {
            "per second": round(done.per_second, 1),
            "worker ms": round((cpu_s(subject) - spent) * 1000 / messages, 2),
            "Postgres ms": round((machine.cpu_s(stage.postgres.pid) - wall) * 1000 / messages, 2),
            "Redis ms": round(done.redis_ms, 3),
            "added ms, p50 and p99": [round(done.added(50), 1), round(done.added(99), 1)],
            "seconds": round(elapsed_s, 1),
        }


def start_fleet(stage: Stage, subject: Subject, processes: int) -> None:
    """Start the processes, some at a time, and wait until all consume."""
    while (missing := processes - len(subject.processes)) > 0:
        for _ in range(min(AT_ONCE, missing) - 1):
            stage.start_process(subject, env={}, wait=False)
        stage.start_process(subject, env={})


def watch(stage: Stage, subject: Subject, pause: Callable[[], None], *, seconds: float) -> Costs:
    """Read everything before and after, and what may vary in between."""
    before, counted, began = _cpus(stage, subject), _counted(subject), time.monotonic()
    connections, locks = 0, list[int]()
    while (elapsed_s := time.monotonic() - began) < seconds:
        pause()
        now = _standing(subject)
        connections, locks = max(connections, now[0]), [*locks, now[1]]
    elapsed_s = time.monotonic() - began
    spent = [after - was for after, was in zip(_cpus(stage, subject), before, strict=True)]
    after = _counted(subject)
    # Its own questions, each a transaction.
    asked = len(locks) + 1
    commands = {
        name: (number - counted[1][name]) / elapsed_s for name, number in after[1].most_common()
    }
    return Costs(
        worker=spent[0] / elapsed_s,
        loops=spent[1] / elapsed_s,
        postgres=spent[2] / elapsed_s,
        redis=spent[3] / elapsed_s,
        transactions=(after[0] - counted[0] - asked) / elapsed_s,
        commands={name: each for name, each in commands.items() if each > 0},
        connections=connections,
        locks=sum(locks) / len(locks),
    )


def cpu_s(subject: Subject) -> float:
    """Return the CPU of all processes of a subject, and of their threads that live."""
    return sum(map(_of_threads, (f"{process.pid}/task/*" for process in subject.processes)))


def _cpus(stage: Stage, subject: Subject) -> tuple[float, ...]:
    mains = (f"{process.pid}/task/{process.pid}" for process in subject.processes)
    return (
        cpu_s(subject),
        sum(map(_of_threads, mains)),
        machine.cpu_s(stage.postgres.pid),
        machine.cpu_s(stage.redis.pid),
    )


def _of_threads(pattern: str) -> float:
    """Sum the run times of threads: the first of three numbers, Documentation/scheduler."""
    found = Path("/proc").glob(f"{pattern}/schedstat")
    return sum(int(one.read_text().split()[0]) for one in found) / 1e9


def _counted(subject: Subject) -> tuple[int, Counter[str]]:
    """Return the transactions of the database, and the commands of Redis by name."""
    row = subject.connection.execute("""
        SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()
    """).fetchone()
    calls = subject.redis.info("commandstats")
    return int(row[0]) if row else 0, Counter(
        {name.removeprefix("cmdstat_"): int(stats["calls"]) for name, stats in calls.items()}
    )


def _standing(subject: Subject) -> tuple[int, int]:
    """Return the connections of the workers, and the locks that they hold or wait for."""
    row = subject.connection.execute("""
        SELECT count(*), (SELECT count(*) FROM pg_locks l WHERE l.pid <> pg_backend_pid())
        FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type = 'client backend'
    """).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)
