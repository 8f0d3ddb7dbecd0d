"""Measures throughput and CPU at upstream latency 0, and latency at half load."""

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack

from bench.peers.before import NAME as BEFORE
from bench.peers.before import before
from bench.peers.peer import Peer, peers
from bench.report import Report
from bench.rounds import Round, interleaved, middle, ratios, run_round, wait_for, warm_up
from bench.stage import Stage, Subject
from bench.variants import ALL, FLOOR, LISTS, NAIVE, OURS, Variant

ANSWERS = 200
"""Messages in flight at most, as in the default settings."""
HALF_LOAD_LATENCY_S = 0.1
HALF_LOAD_S = 4.0
"""Length of a round; the full form has more of them, not longer ones."""


def cpu(one: Round) -> float:
    return one.cpu_ms


def p50(one: Round) -> float:
    return one.added(50)


def p99(one: Round) -> float:
    return one.added(99)


def postgres(one: Round) -> float:
    return one.postgres_ms


def rate(one: Round) -> float:
    return one.per_second


def measure(
    stage: Stage, report: Report, *, rounds: int, messages: int, beside_peers: bool
) -> None:
    """Compare the three at latency 0; then floor and ours at half of our rate."""
    others = _installed(report) if beside_peers else []
    with ExitStack() as stack:
        subjects = [
            stack.enter_context(stage.subject(one, answers=ANSWERS))
            for one in (*ALL, LISTS, *others)
        ]
        for subject in subjects:
            warm_up(stage, subject)
        done = interleaved(stage, subjects, rounds=rounds, messages=messages)
        _beside_floor(report, done)
        if others:
            _beside_peers(report, others, done)
            _beside_before(report, done)
        found = {subject.label: subject for subject in subjects}
        half = middle(done[OURS.name], rate) / 2
        pair = [found[FLOOR.name], found[OURS.name]]
        ours = _half_load(stage, report, pair, rounds=rounds, per_second=half)
        if others:
            its_half = middle(done[BEFORE], rate) / 2
            _half_load_before(stage, report, found[BEFORE], ours, per_second=its_half)


def _beside_floor(report: Report, done: dict[str, list[Round]]) -> None:
    floor, naive, ours = (done[one.name] for one in (FLOOR, NAIVE, OURS))
    absolute = ", ".join(f"{name} {middle(done[name], cpu):.2f} ms" for name in done)
    report.add("cpu_floor", ratios(ours, floor, cpu), absolute)
    report.add("cpu_naive", ratios(ours, naive, cpu), absolute)
    rates = ", ".join(f"{name} {middle(done[name], rate):.0f}/s" for name in done)
    report.add("rate_floor", ratios(ours, floor, rate), rates)
    report.facts["postgres_ms_per_message"] = {
        name: round(middle(found, postgres), 2) for name, found in done.items()
    }
    report.add(
        "wal_kb",
        [one.wal_kb for one in ours],
        ", ".join(
            f"{name} {middle(found, lambda one: one.wal_kb):.2f} KB" for name, found in done.items()
        ),
    )
    for key, name in (("redis_ms", OURS.name), ("redis_lists_ms", LISTS.name)):
        report.add(key, [one.redis_ms for one in done[name]], rates)
    report.facts["upstream_share_of_a_core"] = round(
        max(one.upstream_share for found in done.values() for one in found), 3
    )


def _beside_before(report: Report, done: dict[str, list[Round]]) -> None:
    """Compare with this service as it was."""
    earlier = done[BEFORE]
    for key, name, of in (
        ("cpu_before", OURS.name, cpu),
        ("cpu_lists_before", LISTS.name, cpu),
        ("postgres_before", OURS.name, postgres),
        ("rate_before", OURS.name, rate),
    ):
        both = ", ".join(f"{one} {middle(done[one], of):.2f}" for one in (name, BEFORE))
        report.add(key, ratios(done[name], earlier, of), both)


def _installed(report: Report) -> list[Variant]:
    try:
        return [*peers(ANSWERS), before()]
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        report.broken.append(f"fast: peers: {error}")
        return []


def _beside_peers(report: Report, others: list[Variant], done: dict[str, list[Round]]) -> None:
    """Compare with other queues; each has a column of its own, and promises less."""
    lists, procrastinate = done[LISTS.name], done[others[0].name]
    report.add("cpu_peer", ratios(lists, procrastinate, cpu))
    promises = {FLOOR.name: "none", NAIVE.name: "none"} | {
        one.name: one.guarantees for one in others if isinstance(one, Peer)
    }
    for name, found in done.items():
        report.columns[name] = {
            "messages/s": f"{middle(found, rate):.0f}",
            "worker ms": f"{middle(found, cpu):.2f}",
            "Postgres ms": f"{middle(found, postgres):.2f}",
            "Redis ms": f"{middle(found, lambda one: one.redis_ms):.2f}",
            "guarantees": promises.get(name, "all"),
        }


def _at_rate(
    stage: Stage, subjects: Sequence[Subject], *, rounds: int, per_second: float
) -> dict[str, list[Round]]:
    """Publish at random times, at this mean rate."""
    stage.upstream.control(latency_s=HALF_LOAD_LATENCY_S)
    messages = max(int(per_second * HALF_LOAD_S), 100)
    done = interleaved(stage, subjects, rounds=rounds, messages=messages, rate=per_second)
    stage.upstream.control(latency_s=0.0)
    return done


def _half_load(
    stage: Stage,
    report: Report,
    subjects: Sequence[Subject],
    *,
    rounds: int,
    per_second: float,
) -> list[Round]:
    """Publish at random times, at the same mean rate for both: half of our throughput.

    Return our rounds.
    """
    done = _at_rate(stage, subjects, rounds=rounds, per_second=per_second)
    floor, ours = done[FLOOR.name], done[OURS.name]
    for key, of in (("p50_floor", p50), ("p99_floor", p99)):
        note = ", ".join(f"{name} {middle(found, of):.1f} ms" for name, found in done.items())
        report.add(key, ratios(ours, floor, of), note)
    report.add("p99_ms", [p99(one) for one in ours])
    report.facts["half_load"] = {
        "per_second": round(per_second, 1),
        "messages_a_round": ours[0].messages,
        "added_p95_ms": {
            name: round(middle(found, lambda one: one.added(95)), 1) for name, found in done.items()
        },
    }
    return ours


def _half_load_before(
    stage: Stage, report: Report, subject: Subject, ours: list[Round], *, per_second: float
) -> None:
    """Do the same with this service as it was, at half of its own throughput."""
    (rounds,) = _at_rate(stage, [subject], rounds=len(ours), per_second=per_second).values()
    at = f"at {per_second:.0f}/s"
    note = f"before {middle(rounds, p50):.1f} ms {at}, p99 {middle(rounds, p99):.1f} ms"
    report.add("p50_before", ratios(ours, rounds, p50), note)


def new_users(stage: Stage, report: Report, *, rounds: int, messages: int) -> None:
    """Compare the first message of a person with a later one."""
    with stage.subject(OURS, answers=ANSWERS) as subject:
        warm_up(stage, subject)
        # Until then each new person is looked for.
        wait_for(subject, subject.knows_all)
        known, fresh = [], []
        for _ in range(rounds):
            known.append(run_round(stage, subject, messages=messages))
            subject.published += 10_000_000
            fresh.append(run_round(stage, subject, messages=messages, users=1_000_000_000))
    middles = {
        name: f"{middle(done, lambda one: one.cpu_ms):.2f} + "
        f"{middle(done, lambda one: one.postgres_ms):.2f} ms"
        for name, done in (("first", fresh), ("later", known))
    }
    note = ", ".join(f"{name} {value}" for name, value in middles.items())
    report.add(
        "first_contact", ratios(fresh, known, lambda one: one.cpu_ms + one.postgres_ms), note
    )
