"""The effective settings of Celery, from whatever source."""

import json
import subprocess
import sys
from functools import cache
from typing import Final

from worker.cli.doctor.check_settings import AGENTS
from worker.cli.doctor.effective_celery import Effective
from worker.cli.doctor.examine import Check, Setup
from worker.domain.errors import PermanentError
from worker.domain.reports.finding import Finding, fault, ok
from worker.handlers.turns.answer import MAX_TASK_S
from worker.queue.broker import is_amqp

_GROUP: Final = "celery"
APP: Final = "Celery's app"
_BUILD_S: Final = 15.0
"""Python, Celery and the app, on a busy machine; it takes about one second."""
_NEEDS: Final = ("DATABASE_URL", "BROKER_URL", "TELNYX_API_KEY", "NAMESPACE", "other settings")


def broker(found: Effective) -> Finding:
    """Check that Celery uses the broker that the other checks look at."""
    if found.ours_is_read and found.ours_is_written:
        return ok("that of BROKER_URL")
    fix = "unset CELERY_BROKER_URL, CELERY_BROKER_READ_URL and CELERY_BROKER_WRITE_URL"
    return fault("another than that of BROKER_URL", fix)


def results(found: Effective) -> Finding:
    """Check that Celery stores no results: nothing reads them, and they would fill Redis."""
    if found.stores_results:
        return fault("results are stored", "unset CELERY_RESULT_BACKEND")
    return ok("off")


def visibility(setup: Setup, found: Effective) -> Finding:
    """Check that Redis leaves a task to its worker for as long as one may take.

    Needed: the longest single step (a call and its margin), and the time after which a task starts
    no further turn. A task with both of them may still get a copy, which finds the user taken and
    ends: that is harmless, and rare. With less, slow answers get one every time.
    """
    if is_amqp(setup.settings.broker_url):
        return ok("RabbitMQ has none: what a worker took is its own while it is connected")
    longest_call_s = max(agent.call_timeout_s for agent in setup.routing.agents.values())
    needed_s = max(MAX_TASK_S, setup.timing.lease_s(longest_call_s))
    timeout_s = found.visibility_timeout_s
    if timeout_s < needed_s:
        fix = f"raise visibility_timeout to {needed_s:g} s, or lower the agents' call_timeout_s"
        return fault(f"{timeout_s:g} s, but a step may take {needed_s:g} s", fix)
    return ok(f"{timeout_s:g} s; a step takes {needed_s:g} s at most")


def ask() -> Effective:
    """Ask a process of its own. Raises `PermanentError`."""
    program = [sys.executable, "-m", "worker.cli.doctor.effective_celery"]
    try:
        done = subprocess.run(program, capture_output=True, text=True, timeout=_BUILD_S, check=True)  # noqa: S603 - ours
        return Effective(**json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        raise PermanentError(f"it cannot be built ({type(error).__name__})") from None


def checks() -> tuple[Check, ...]:
    """Return the checks of one run: they share one answer."""
    answered = cache(ask)

    def build(_: Setup) -> Finding:
        answered()
        return ok("can be built")

    return (
        Check(group=_GROUP, name=APP, look=build, needs=_NEEDS, timeout_s=_BUILD_S + 1),
        Check(
            group=_GROUP, name="Celery's broker", look=lambda _: broker(answered()), needs=(APP,)
        ),
        Check(
            group=_GROUP, name="result backend", look=lambda _: results(answered()), needs=(APP,)
        ),
        Check(
            group=_GROUP,
            name="visibility timeout",
            look=lambda setup: visibility(setup, answered()),
            needs=(APP, AGENTS),
        ),
    )
