"""Measures the replies of one agent while 10,000 users wait for another one."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.grown import make_wait
from bench.report import Report
from bench.rounds import percentile, run_round, wait_for
from bench.stage import AGENTS, Stage, Subject, wait_until_quiet
from bench.variants import OURS

SLOTS = 20
LATENCY_S = 0.5
CROWD = 10_000
"""More than 20 slots at 0.5 s can answer during the measurement: 40 a second."""
_WAITING = "SELECT count(*) FROM messages WHERE state = 'pending'"
_SEND_HOME = """
WITH home AS (UPDATE channel_users SET due_at = NULL
    WHERE agent = 'crowd' OR channel = 'sms' RETURNING id)
UPDATE messages SET state = 'skipped', outcome = 'too_many', finished_at = service_now()
FROM home WHERE messages.channel_user_id = home.id AND messages.state = 'pending'
"""
_ANSWERED = "SELECT count(*) FROM turns WHERE agent = 'crowd' AND finished_at IS NOT NULL"
_INTENDED = """
SELECT m.message_id, extract(epoch FROM min(c.intent_at))
FROM messages m JOIN calls c ON c.turn_id = m.turn_id WHERE m.message_id = ANY(%s) GROUP BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """p95 of the seconds from publish to intent, and to reply."""

    intent_s: float
    reply_s: float
    crowd_per_second: float


def measure(
    stage: Stage, report: Report, *, rounds: int, messages: int, processes: Sequence[int]
) -> None:
    """Compare the p95 of publish to reply, with and without waiting users."""
    ratios, notes = list[float](), list[str]()
    agents = stage.folder / "fair.toml"
    agents.write_text(AGENTS + "[agents.crowd]\n")
    env = {"AGENTS_FILE": str(agents)}
    with stage.subject(OURS, answers=SLOTS, processes=0) as subject:
        for number in processes:
            stage.start_process(subject, env=env)
            run_round(stage, subject, messages=SLOTS)
            stage.upstream.control(latency_s=LATENCY_S)
            alone = [once_a_second(stage, subject, messages) for _ in range(rounds)]
            beside = []
            for _ in range(rounds):
                make_wait(subject, CROWD - _number(subject, _WAITING), agent="crowd")
                _begin_on_the_crowd(subject)
                beside.append(once_a_second(stage, subject, messages))
            send_home(subject)
            wait_until_quiet(subject)
            stage.upstream.control(latency_s=0.0)
            ratios += [b.reply_s / a.reply_s for a, b in zip(alone, beside, strict=True)]
            notes.append(_tell(report, number, alone, beside))
    report.add("fair", ratios, "; ".join(notes))


def _tell(report: Report, processes: int, alone: Sequence[Waited], beside: Sequence[Waited]) -> str:
    """Record the facts beside the bar; return the times behind its ratio."""
    report.facts[f"fair: p95 ms from publish to intent, alone and beside, {processes}"] = [
        round(median(one.intent_s for one in some) * 1000, 1) for some in (alone, beside)
    ]
    report.facts[f"fair: answered per second of the crowd, {processes}"] = round(
        median(one.crowd_per_second for one in beside), 1
    )
    reply_s = [median(one.reply_s for one in some) for some in (alone, beside)]
    return f"{processes}: {reply_s[0]:.3f} s alone, {reply_s[1]:.3f} s beside"


def once_a_second(stage: Stage, subject: Subject, messages: int) -> Waited:
    """Publish one message a second, on average, and wait for the replies."""
    before, answered, began = subject.last_reply(), _number(subject, _ANSWERED), time.monotonic()
    order = stage.order(subject, messages=messages, rate=1.0, users=messages)
    published = stage.producer.publish(order)
    names = [f"m-{number}" for number in range(order.first, order.first + messages)]
    wait_for(subject, lambda: set(names) <= subject.finished(before).keys())
    elapsed_s, finished = time.monotonic() - began, subject.finished(before)
    intended = dict(subject.connection.execute(_INTENDED, [names]).fetchall())
    pairs = list(zip(names, published, strict=True))
    return Waited(
        intent_s=percentile(sorted(float(intended[name]) - at for name, at in pairs), 95),
        reply_s=percentile(sorted(finished[name] - at for name, at in pairs), 95),
        crowd_per_second=(_number(subject, _ANSWERED) - answered) / elapsed_s,
    )


def send_home(subject: Subject) -> None:
    """End the messages of those who wait: a crowd's, or a flood's."""
    subject.connection.execute(_SEND_HOME)


def _begin_on_the_crowd(subject: Subject) -> None:
    """Wait until the waiting users hold all slots that they may hold."""
    enough = _number(subject, _ANSWERED) + SLOTS * len(subject.processes)
    wait_for(subject, lambda: _number(subject, _ANSWERED) >= enough)


def _number(subject: Subject, query: str) -> int:
    return int((subject.connection.execute(query.encode()).fetchone() or (0,))[0])
