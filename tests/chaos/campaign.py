"""One campaign: load and faults at once, then healing, then judgement. Every wait is bounded."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.chaos.arrivals import arrived, check_arrivals, check_machines, keys
from tests.chaos.evidence import NEVER_ZERO, Evidence
from tests.chaos.hurts import Hurts
from tests.chaos.load import Group, load, way_of
from tests.chaos.mix import FINAL_WITHIN_S, OUTSIDE
from tests.chaos.outside import Outside
from tests.chaos.pair import true_time
from tests.chaos.parts import Looker
from tests.chaos.producer import Producer
from tests.chaos.schedule import Planned, schedule
from tests.chaos.stage import Stage, running_stage
from tests.chaos.verdict import (
    check_acceptance,
    check_given_up,
    check_letters,
    check_notes,
    check_numbers,
    check_replies,
    explanation,
    places,
    said,
)
from tests.chaos.waits import AFTER_S, HOLD_ALL, Span, check_waits, unexplained_s, untouched
from tests.chaos.ways import ways
from tests.support.oracle import Expectations, Violation, check
from tests.support.tcp_proxy import Mode
from worker.channels.email.delivery.smtp import ANSWER_S

SLACK_S = 0.5
"""Forgiven when requests overlap at Telnyx: on a busy machine clients are noticed to leave late."""
_TICK_S = 0.1
_PROGRESS_S = 1.0
_PLAIN_PROGRESS_S = 15.0

_TEN_MINUTES_PASS = """
WITH opened AS (
    UPDATE gates SET closed_until = service_now()
    WHERE closed_until > service_now() AND name LIKE 'telnyx:%%'
), due AS (
    UPDATE deliveries SET due_at = service_now()
    WHERE state IN ('pending', 'sending') AND lease_until IS NULL
        AND due_at > service_now() + interval '30 s' AND channel IN ('sms', 'app')
)
UPDATE deliveries SET lease_until = service_now(), due_at = service_now() WHERE state = 'sending'
    AND provider_status = 'handed_over' AND lease_until < service_now() + make_interval(secs => %s)
RETURNING id
"""
"""For a channel that met the wrong key, a webhook that failed twice, and mails that a server may
have, since longer than an attempt lasts.
"""
_COUNTS = """
SELECT count(*) AS accepted, count(outcome) AS final,
    (SELECT count(*) FROM replies WHERE source = 'adopted') AS adopted,
    (SELECT count(*) FROM deliveries WHERE state IN ('pending', 'sending')) AS undelivered,
    (SELECT count(*) FROM channel_users WHERE diverged_at IS NOT NULL) AS diverged,
    (SELECT array_agg(name) FROM gates WHERE closed_until > service_now()) AS gates,
    (SELECT extract(epoch FROM min(changed_at))::float FROM gates WHERE closed_until > service_now()
        AND reason NOT LIKE '%% for several users') AS closed_at FROM messages
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a person asks for."""

    seed: int
    minutes: float
    workers: int
    messages: int
    folder: Path

    @property
    def command(self) -> str:
        """What repeats it."""
        return (
            f".venv/bin/python -m tests.chaos.run --seed {self.seed} --minutes {self.minutes:g}"
            f" --workers {self.workers} --messages {self.messages}"
        )


@dataclass
class Report:
    """What came of it."""

    options: dict[str, object]
    command: str
    counters: dict[str, int] = field(default_factory=dict)
    zero: list[str] = field(default_factory=list)
    """Counters that are 0 and must not be; empty in a short campaign."""
    violations: list[str] = field(default_factory=list)
    states: dict[str, dict[str, int]] = field(default_factory=dict)
    letters: dict[str, int] = field(default_factory=dict)
    given_up: dict[str, int] = field(default_factory=dict)
    """Turns without an answer of the model, by what allows it."""
    telnyx_faults: dict[str, int] = field(default_factory=dict)
    log_words: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    failed_faults: list[str] = field(default_factory=list)
    exits: list[dict[str, object]] = field(default_factory=list)
    waits: int = 0
    """Of messages that nothing befell themselves."""
    longest_wait_s: float = 0.0
    """Of these, without the time in which all had to wait."""
    planned: int = 0
    publishes: int = 0
    healed_in_s: float = 0.0
    took_s: float = 0.0

    @property
    def is_green(self) -> bool:
        return not (self.violations or self.zero or self.failed_faults)


@dataclass
class Campaign:
    """The running of one."""

    options: Options
    stage: Stage
    producers: Sequence[Producer]
    outside: Outside
    """One of them: all its people are the gateway's."""
    report: Report
    looker: Looker
    began: float = field(default_factory=time.monotonic)
    gates: set[str] = field(default_factory=set)
    active: list[str] = field(default_factory=list)
    excused: list[Span] = field(default_factory=list)
    """When everybody had to wait."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _shown: float = 0.0
    _looked: float = 0.0
    _hurting: list[threading.Thread] = field(default_factory=list)

    @property
    def length_s(self) -> float:
        return self.options.minutes * 60.0

    @property
    def planned(self) -> int:
        return sum(one.planned for one in self.producers)

    @property
    def is_written(self) -> bool:
        return all(one.is_done for one in self.producers)

    @property
    def resent(self) -> set[str]:
        return set().union(*(one.resent for one in self.producers))

    def run(self) -> None:
        """Play, heal, wait."""
        threads = [
            threading.Thread(target=self._forever, args=(step, pause_s), daemon=True)
            for step, pause_s in (
                *((one.step, 0.02) for one in self.producers),
                (self.stage.sink.drain, 0.05),
            )
        ]
        for thread in threads:
            thread.start()
        try:
            self._play(
                schedule(
                    seed=self.options.seed, length_s=self.length_s, workers=self.options.workers
                )
            )
            self._heal()
            self._wait_until_final()
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(timeout=10.0)
        stage = self.stage
        stage.sink.drain()
        stage.sink.take_posted(stage.receiver.posted, were_told=stage.answers)
        if (url := stage.odd_env.get("BROKER_URL")) is not None:
            stage.sink.take_from_rabbitmq(url)

    def _play(self, plan: Sequence[Planned]) -> None:
        waiting = list(plan)
        hurts = Hurts(self.stage)
        while (now_s := time.monotonic() - self.began) < self.length_s:
            while waiting and waiting[0].at_s <= now_s:
                planned = waiting.pop(0)
                self.report.faults.append(str(planned))
                thread = threading.Thread(target=self._hurt, args=(hurts, planned), daemon=True)
                thread.start()
                self._hurting.append(thread)
            self.stage.replace_the_dead()
            self._look("faults")
            time.sleep(_TICK_S)

    def _hurt(self, hurts: Hurts, planned: Planned) -> None:
        self.active.append(planned.kind)
        began = time.time()
        try:
            hurts(planned)
        except Exception as error:  # noqa: BLE001 - a fault that fails is a failed campaign
            self.report.failed_faults.append(f"{planned}: {type(error).__name__}: {error}")
        finally:
            self.active.remove(planned.kind)
            if planned.kind in HOLD_ALL:
                self.excused.append(Span(began, time.time() + AFTER_S))

    def _heal(self) -> None:
        for thread in self._hurting:
            thread.join(timeout=60.0)
        stage = self.stage
        for proxy in (
            stage.pair.proxy,
            stage.pair.standby_proxy,
            stage.redis_proxy,
            stage.telnyx_proxy,
        ):
            stage.set_mode(proxy, Mode.PASS)
        stage.telnyx.be_well()
        began = time.time()
        stage.all_fresh()
        stage.fleet.wait_ready(*(seat.worker for seat in stage.seats))
        self.excused.append(Span(began, time.time() + AFTER_S))

    def _wait_until_final(self) -> None:
        healed = time.monotonic()
        while time.monotonic() - healed < FINAL_WITHIN_S:
            self.stage.replace_the_dead()
            row = self._look("healing")
            done = row["accepted"] == row["final"] == self.planned
            if done and self.is_written and not row["undelivered"]:
                break
            self.looker.rows(_TEN_MINUTES_PASS, ANSWER_S)
            time.sleep(_TICK_S * 3)
        self.report.healed_in_s = round(time.monotonic() - healed, 1)

    def _look(self, phase: str) -> dict[str, int]:
        """Sample the tables once a second, and say how it goes."""
        now = time.monotonic()
        plain = not sys.stderr.isatty()
        row = {"accepted": -1, "final": -2, "undelivered": -1}
        if phase == "faults" and now - self._looked < _PROGRESS_S:
            return row
        since_s, self._looked = now - self._looked, now
        (row,) = self.looker.rows(_COUNTS)
        self.gates |= set(row["gates"] or ())
        if row["closed_at"] is not None:
            # It may have been closed since the last look, and stay so until the next.
            closed = true_time(self.stage.pair.jumps, row["closed_at"])
            self.excused.append(Span(max(time.time() - since_s, closed), time.time() + _PROGRESS_S))
        if now - self._shown >= (_PLAIN_PROGRESS_S if plain else _PROGRESS_S):
            self._shown = now
            running = sum(seat.worker.is_running for seat in self.stage.seats)
            line = (
                f"{now - self.began:4.0f} s {phase} · {running} workers · written"
                f" {sum(len(one.accepted) for one in self.producers)}/{self.planned} · accepted"
                f" {row['accepted']} · final {row['final']} · adopted {row['adopted']} · diverged"
                f" {row['diverged']} · sent again {len(self.resent)} · now:"
                f" {' '.join(self.active) or '-'}"
            )
            print(line if plain else f"\r\x1b[K{line[:150]}", end="\n" if plain else "")
            sys.stdout.flush()
        return row

    def _forever(self, step: Callable[[], None], pause_s: float) -> None:
        try:
            while not self._stop.wait(pause_s):
                step()
        except Exception as error:  # noqa: BLE001 - without it there is no campaign
            self.report.failed_faults.append(f"{step}: {type(error).__name__}: {error}")


def run_campaign(options: Options) -> Report:
    """Run one campaign in an empty folder and judge it."""
    began = time.monotonic()
    report = Report(options={**asdict(options), "folder": str(options.folder)}, command="")
    report.command = options.command
    with ExitStack() as stack:
        stage = stack.enter_context(
            running_stage(options.folder, seed=options.seed, workers=options.workers)
        )
        producers, outside, looker = _producers(stack, stage, options)
        campaign = Campaign(options, stage, producers, outside, report, looker)
        campaign.run()
        _judge(campaign)
    report.took_s = round(time.monotonic() - began, 1)
    return report


def _producers(
    stack: ExitStack, stage: Stage, options: Options
) -> tuple[list[Producer], Outside, Looker]:
    """Give one for each way in, the one that comes to the gateway, and a look for the campaign."""
    plan = load(seed=options.seed, length_s=options.minutes * 60.0, messages=options.messages)
    outside = {user: groups for user, groups in plan.items() if is_outside(groups)}
    past_proxy = stage.past_proxy()

    def look() -> Looker:
        looker = stage.looker()
        stack.callback(looker.close)
        return looker

    by_name = ways(
        broker_url=stage.fleet.broker_url,
        database_url=stage.pair.url,
        rabbitmq_url=stage.odd_env.get("BROKER_URL"),
    )
    producers = [
        Producer(
            plan={u: plan[u] for u in plan.keys() - outside.keys() if way_of(u) == name},
            way=way,
            looker=look(),
            past_proxy=past_proxy,
            rude=name == "celery",
        )
        for name, way in by_name.items()
    ]
    writers = Outside(
        plan=outside,
        way=None,
        looker=look(),
        past_proxy=past_proxy,
        rude=True,
        gateway_port=stage.gateway_port,
    )
    producers.append(writers)
    for one in producers:
        stack.callback(one.close)
    return producers, writers, look()


def is_outside(groups: Sequence[Group]) -> bool:
    """Whether somebody writes by way of the gateway."""
    return groups[0].messages[0].channel in OUTSIDE


def _judge(campaign: Campaign) -> None:
    stage, report = campaign.stage, campaign.report
    plan = {user: groups for one in campaign.producers for user, groups in one.plan.items()}
    stage.fleet.stop()
    looker, log = campaign.looker, stage.telnyx.log()
    evidence = Evidence(
        looker=looker, log=log, workers=stage.fleet.folder, was_withdrawn=stage.was_withdrawn
    )
    rows = looker.rows("SELECT id, channel_user_id, idempotency_key FROM deliveries")
    given_up = evidence.given_up()
    outer = arrived(looker, log, stage.box)
    delivered, written = stage.sink.delivered(rows), places(plan)
    failed = evidence.texts("t.state = 'failed'")
    waits = untouched(looker, stage.pair.jumps, stage.freezes)
    report.waits = len(waits)
    report.longest_wait_s = round(
        max((unexplained_s(one.span, campaign.excused) for one in waits), default=0.0), 1
    )
    violations: list[Violation] = [
        *check(
            looker,
            log,
            Expectations(
                accepted=keys(plan, looker),
                delivered=[*delivered, *(one for one, _ in outer)],
                slack_s=SLACK_S,
            ),
        ),
        *check_numbers(
            said(log),
            written,
            answered=evidence.texts("r.source IN ('call', 'adopted')"),
            excused=failed,
        ),
        *check_acceptance(evidence.accepted(), written),
        *check_replies(
            [*delivered, *(one for one, _ in outer)],
            evidence.answered_by_delivery(),
            written,
            excused=failed,
        ),
        *check_given_up(given_up),
        *check_letters(
            evidence.letters(), refused=sum(one.refusals_withdrawn > 0 for one in given_up)
        ),
        *check_waits(waits, campaign.excused),
        *check_notes(stage.noted(), {text.partition(" tool:")[0] for text in written}),
        *check_arrivals(outer),
        *check_machines(looker),
    ]
    report.violations = [str(each) for each in violations]
    report.counters = evidence.counters(
        gates=campaign.gates,
        resent=campaign.resent,
        lost_entries=stage.lost_entries,
    )
    report.counters["repeated deliveries dropped by key"] = stage.sink.repetitions
    report.counters["tools run"] = len(stage.noted())
    report.counters["mails of machines left alone"] = campaign.outside.machines
    report.counters["failovers"] = stage.pair.failovers
    report.counters["jumps of Postgres' clock"] = len(stage.pair.jumps)
    report.counters["replies by webhook"] = len(stage.receiver.posted)
    report.given_up = dict(Counter(explanation(turn) or "nothing" for turn in given_up))
    if campaign.options.minutes >= 2.0:
        report.zero = [name for name in NEVER_ZERO if not report.counters[name]]
    report.states, report.letters = evidence.states(), dict(evidence.letters())
    report.telnyx_faults, report.log_words = evidence.faults(), dict(evidence.words())
    report.exits = [vars(each) for each in stage.exits]
    report.planned = campaign.planned
    report.publishes = sum(one.publishes for one in campaign.producers)
