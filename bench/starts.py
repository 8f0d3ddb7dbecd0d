"""Measures the first message after a start, and after every connection was cut silently."""

import time
from contextlib import ExitStack

from bench.report import Report
from bench.rounds import run_round, warm_up
from bench.silence import SilentProxy
from bench.stage import Stage, Subject
from bench.variants import OURS
from tests.support.tcp_proxy import postgres_socket

ANSWERS = 50
CALM_S = 2.0
"""After the start, before the message: the sweeper and the heartbeat have run."""


def measure(stage: Stage, report: Report, *, rounds: int) -> None:
    """Start, and publish one message when the worker reports that it is ready."""
    first_s, ready_s = [], []
    for _ in range(rounds):
        with stage.subject(OURS, answers=ANSWERS, processes=0) as subject:
            began = time.monotonic()
            stage.start_process(subject, env={})
            ready_s.append(time.monotonic() - began)
            first_s.append(run_round(stage, subject, messages=1).added_ms[0] / 1000)
    report.add("first_s", first_s, f"from publish to reply; ready {min(ready_s):.1f} s after start")


def after_a_silent_cut(stage: Stage, report: Report, *, rounds: int) -> None:
    """Route every connection of a worker through a proxy, cut them all, publish one message."""
    taken_s, cut = [], [0, 0, 0]
    for _ in range(rounds):
        with ExitStack() as stack:
            subject = stack.enter_context(stage.subject(OURS, answers=ANSWERS, processes=0))
            targets = (
                postgres_socket(subject.database_url),
                ("127.0.0.1", stage.redis.port),
                ("127.0.0.1", stage.upstream.port),
            )
            proxies = [stack.enter_context(SilentProxy(target)) for target in targets]
            _start_through(stage, subject, proxies)
            warm_up(stage, subject)
            time.sleep(CALM_S)
            cut = [proxy.cut() for proxy in proxies]
            taken_s.append(run_round(stage, subject, messages=1).added_ms[0] / 1000)
            subject.kill()  # before the proxies end
    connections = "{} of Postgres, {} of Redis, {} of the upstream".format(*cut)
    report.add("first_after_cut_s", taken_s, f"connections cut: {connections}")


def _start_through(stage: Stage, subject: Subject, proxies: list[SilentProxy]) -> None:
    postgres, redis, upstream = proxies
    database = subject.database_url
    url = f"postgresql://postgres@127.0.0.1:{postgres.port}/{_name_in(database)}"
    stage.start_process(
        subject,
        env={
            "DATABASE_URL": url,
            "BROKER_URL": _through(redis.port, subject.broker_url),
            "TELNYX_BASE_URL": f"http://127.0.0.1:{upstream.port}/v2",
        },
    )


def _through(port: int, url: str) -> str:
    return f"{url.rpartition(':')[0]}:{port}/{url.rpartition('/')[2]}"


def _name_in(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]
