"""Runs half load for a long time, with 1 % faults: nothing may grow."""

import time
from dataclasses import asdict, dataclass
from statistics import median

from bench import machine
from bench.report import Report
from bench.rounds import run_round, warm_up
from bench.stage import AGENTS, Stage, Subject
from bench.variants import OURS, USERS

ANSWERS = 200
LATENCY_S = 0.1
FAULTS = 0.01
PAUSE_S = 30.0
FLAT = 1.1
"""Limit of the last quarter's median, relative to the second quarter's; the first warms up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement of the worker and its database."""

    at_s: float
    rss_mb: float
    threads: int
    connections: int
    dead_tuples: int
    unanswered: int


def measure(stage: Stage, report: Report, *, minutes: float, per_second: float | None) -> None:
    """Publish at this rate; None = half of the rate of a short round."""
    agents = stage.folder / "soak.toml"
    agents.write_text(AGENTS)
    env = {"AGENTS_FILE": str(agents)}
    with stage.subject(OURS, answers=ANSWERS, env=env) as subject:
        warm_up(stage, subject)
        rate = per_second or run_round(stage, subject, messages=500).per_second / 2
        count = int(rate * minutes * 60)
        stage.upstream.control(latency_s=LATENCY_S, fail_share=FAULTS)
        order = stage.order(subject, messages=count, rate=rate, users=USERS)
        stage.producer.begin(order)
        samples, began = [], time.monotonic()
        while time.monotonic() - began < minutes * 60:
            time.sleep(min(PAUSE_S, minutes * 60 / 20))
            samples.append(_look(subject, time.monotonic() - began))
        stage.producer.end()
        stage.upstream.control(latency_s=0.0, fail_share=0.0)
    flat = {name: is_flat([getattr(one, name) for one in samples]) for name in _GROWING}
    if not all(flat.values()):
        report.broken.append("soak: something grows")
    report.facts["soak"] = {
        "minutes": minutes,
        "per_second": round(rate, 1),
        "faults": FAULTS,
        "flat": flat,
        "samples": [asdict(one) for one in samples],
    }


_GROWING = ("rss_mb", "threads", "connections", "dead_tuples", "unanswered")


def is_flat(values: list[float]) -> bool:
    """Compare the last quarter with the second one."""
    quarter = len(values) // 4
    if not quarter:
        return False
    early, late = values[quarter : 2 * quarter], values[-quarter:]
    return median(late) <= FLAT * median(early) + 1


def _look(subject: Subject, at_s: float) -> Sample:
    pid = subject.processes[0].pid
    row = subject.connection.execute("""
        SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()),
            (SELECT sum(n_dead_tup) FROM pg_stat_user_tables),
            (SELECT count(*) FROM messages WHERE state IN ('pending', 'in_turn'))
    """).fetchone()
    connections, dead, unanswered = row or (0, 0, 0)
    return Sample(
        at_s=round(at_s, 1),
        rss_mb=round(machine.rss_mb(pid), 1),
        threads=machine.threads(pid),
        connections=int(connections),
        dead_tuples=int(dead or 0),
        unanswered=int(unanswered),
    )
