"""The effective settings of Celery, from whatever source.

As a program, it prints those that `celery -A worker` would have here, as one line of JSON: the app
is built at import, from the environment, and cannot be built again. So an override
(CELERY_RESULT_BACKEND, CELERY_BROKER_URL, another default) is seen.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Final

from worker.cli.doctor.examine import Setup
from worker.domain.errors import PermanentError
from worker.domain.reports.finding import Finding, fault, ok
from worker.handlers.turns.answer import MAX_TASK_S
from worker.queue.broker import is_amqp

BUILD_S: Final = 15.0
"""Python, Celery and the app, on a busy machine; it takes about one second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """The settings of Celery that the service depends on; without any address."""

    visibility_timeout_s: float
    stores_results: bool
    ours_is_read: bool
    """Whether workers take messages from the broker of BROKER_URL."""
    ours_is_written: bool
    """Whether tasks are published there."""


# The checks of one run share one answer.
@lru_cache(maxsize=1)
def ask(_: Setup) -> Effective:
    """Run the program. Raises `PermanentError`."""
    program = [sys.executable, "-m", "worker.cli.doctor.check_celery"]
    try:
        done = subprocess.run(program, capture_output=True, text=True, timeout=BUILD_S, check=True)  # noqa: S603 - ours
        return Effective(**json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        raise PermanentError(f"it cannot be built ({type(error).__name__})") from None


def build(setup: Setup) -> Finding:
    """Check that the app can be built."""
    ask(setup)
    return ok("can be built")


def broker(setup: Setup) -> Finding:
    """Check that Celery uses the broker that the other checks look at."""
    found = ask(setup)
    if found.ours_is_read and found.ours_is_written:
        return ok("that of BROKER_URL")
    fix = "unset CELERY_BROKER_URL, CELERY_BROKER_READ_URL and CELERY_BROKER_WRITE_URL"
    return fault("another than that of BROKER_URL", fix)


def results(setup: Setup) -> Finding:
    """Check that Celery stores no results: nothing reads them, and they would fill Redis."""
    if ask(setup).stores_results:
        return fault("results are stored", "unset CELERY_RESULT_BACKEND")
    return ok("off")


def visibility(setup: Setup) -> Finding:
    """Check that Redis leaves a task to its worker for as long as one may take."""
    if is_amqp(setup.settings.broker_url):
        return ok("RabbitMQ has none: what a worker took is its own while it is connected")
    return judge_visibility(setup, ask(setup).visibility_timeout_s)


def judge_visibility(setup: Setup, timeout_s: float) -> Finding:
    """Judge the time after which Redis gives a task to another worker.

    Needed: the longest single step (a call and its margin), and the time after which a task starts
    no further turn. A task with both of them may still get a copy, which finds the user taken and
    ends: that is harmless, and rare. With less, slow answers get one every time.
    """
    longest_call_s = max(agent.call_timeout_s for agent in setup.routing.agents.values())
    needed_s = max(MAX_TASK_S, setup.timing.lease_s(longest_call_s))
    if timeout_s < needed_s:
        fix = f"raise visibility_timeout to {needed_s:g} s, or lower the agents' call_timeout_s"
        return fault(f"{timeout_s:g} s, but a step may take {needed_s:g} s", fix)
    return ok(f"{timeout_s:g} s; a step takes {needed_s:g} s at most")


def effective() -> Effective:
    """Build the app and read its settings. Raises SystemExit if ours are wrong."""
    from message_worker_client.broker_url import read_broker_url  # noqa: PLC0415
    from worker.celery import app  # noqa: PLC0415 - see above
    from worker.config.settings import load_settings  # noqa: PLC0415

    conf, ours = app.conf, read_broker_url(load_settings().broker_url).bare
    return Effective(
        visibility_timeout_s=float(conf.broker_transport_options.get("visibility_timeout", 3600)),
        stores_results=bool(conf.result_backend) and conf.result_backend != "disabled",
        ours_is_read=conf.broker_read_url == ours,
        ours_is_written=conf.broker_write_url == ours,
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(effective())))
