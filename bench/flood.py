"""Measures the replies to those who write once, while one sender floods the same agent.

threads   one address with 10,000 threads
numbers   10,000 numbers of one block
"""

from dataclasses import replace
from statistics import median

from bench.fair import LATENCY_S, SLOTS, once_a_second, send_home
from bench.report import Report
from bench.rounds import run_round
from bench.stage import Stage, Subject, wait_until_quiet
from bench.variants import OURS
from worker.config.agents_file import load_agents
from worker.domain.fairness import Fairness
from worker.handlers.intake.route import parse_and_route
from worker.store.database import Database
from worker.store.intake.messages import accept_on

KINDS = ("threads", "numbers")
FLOOD = 10_000
SMALL = 200
"""Without surplus, one message waits for the whole flood: five seconds for this one."""
NO_SURPLUS = Fairness(turns_per_address=FLOOD, turns_per_group=FLOOD)


def measure(stage: Stage, report: Report, *, rounds: int, messages: int) -> None:
    """Compare the p95 of publish to reply, with and without a flood of each kind."""
    with stage.subject(OURS, answers=SLOTS) as subject:
        run_round(stage, subject, messages=SLOTS)
        stage.upstream.control(latency_s=LATENCY_S)
        alone = [once_a_second(stage, subject, messages).reply_s for _ in range(rounds)]
        for kind in KINDS:
            accept_flood(subject, kind, messages=SMALL, fairness=NO_SURPLUS)
            before = once_a_second(stage, subject, 1).reply_s
            send_home(subject)
            accept_flood(subject, kind, messages=FLOOD)
            beside = [once_a_second(stage, subject, messages).reply_s for _ in range(rounds)]
            send_home(subject)
            wait_until_quiet(subject)
            report.add(
                f"fair_{kind}",
                [with_flood / without for with_flood, without in zip(beside, alone, strict=True)],
                f"{median(alone):.3f} s alone, {median(beside):.3f} s beside {FLOOD:,};"
                f" if none is surplus, {before:.1f} s after {SMALL}:"
                f" {before / median(alone):.0f} x alone",
            )
        stage.upstream.control(latency_s=0.0)


def accept_flood(
    subject: Subject, kind: str, *, messages: int, fairness: Fairness | None = None
) -> None:
    """Accept messages of one sender, as the worker does when it has no free slot."""
    routing, _ = load_agents(None)
    routing = replace(routing, fairness=fairness or routing.fairness)
    database, first = Database(subject.database_url), subject.published
    with database.transaction() as connection:
        for number in range(messages):
            document = {
                "version": 1,
                "channel": "sms",
                "user": f"+1312555{number if kind == 'numbers' else 0:04}",
                "thread": "" if kind == "numbers" else str(number),
                "message_id": f"{kind}-{messages}-{first}",
                "text": f"#{number} buy now",
            }
            message = parse_and_route(document, routing)
            accept_on(
                connection, message, database.consent_key, starts_itself=False, traceparent=None
            )
    database.close()
