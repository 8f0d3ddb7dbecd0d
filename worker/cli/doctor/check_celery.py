# mypy: disallow-untyped-calls=False
"""The effective settings of Celery, from whatever source, and whether Flower is protected.

An override (CELERY_RESULT_BACKEND, CELERY_BROKER_URL, another default) is seen. The app itself is
not built: with the tasks and the gate it would take longer than all other checks.
"""

import os
import re
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

import httpx
from celery import Celery

from message_worker_client.broker_url import read_broker_url
from worker.cli.doctor.examine import Setup
from worker.config.settings import secret
from worker.domain.errors import PermanentError
from worker.domain.reports.finding import Finding, fault, ok, warning
from worker.domain.timing import MAX_TASK_S
from worker.net.dial import tls_context
from worker.queue.broker import celery_settings, is_amqp

_FLOWER: Final = "http://127.0.0.1:5555"
_PAGES: Final = ("", "/api/workers")
_PATIENCE_S: Final = 2.0
_NO_ADDRESS: Final = fault("FLOWER_URL is no address", "give http://host:5555")


# The checks of one run share one answer.
@lru_cache(maxsize=1)
def _effective(setup: Setup) -> Any:  # noqa: ANN401 - Celery has no types
    """Return the settings that are in force. Raises `PermanentError`."""
    url, threads = setup.settings.broker_url, setup.settings.concurrency
    longest_task_s = MAX_TASK_S + setup.timing.lease_s(setup.routing.longest_step_s())
    try:
        secret("FLOWER_BASIC_AUTH")
        conf = Celery("worker", set_as_current=False).conf
        conf.update(celery_settings(url, concurrency=threads, longest_task_s=longest_task_s))
    except Exception as error:  # noqa: BLE001 - Celery's variables may name any module
        raise PermanentError(f"it cannot be built ({type(error).__name__})") from None
    return conf


def build(setup: Setup) -> Finding:
    """Check that the app can be built."""
    _effective(setup)
    return ok("can be built")


def broker(setup: Setup) -> Finding:
    """Check that Celery uses the broker that the other checks look at."""
    # The app takes a CELERY_BROKER_URL that equals BROKER_URL for none.
    ours = {read_broker_url(setup.settings.broker_url).bare, os.environ.get("BROKER_URL")}
    found = _effective(setup)
    if {found.broker_read_url, found.broker_write_url} <= ours:
        return ok("that of BROKER_URL")
    fix = "unset CELERY_BROKER_URL, CELERY_BROKER_READ_URL and CELERY_BROKER_WRITE_URL"
    return fault("another than that of BROKER_URL", fix)


def results(setup: Setup) -> Finding:
    """Check that Celery stores no results: nothing reads them, and they would fill Redis."""
    if _effective(setup).result_backend not in {None, "", "disabled"}:
        return fault("results are stored", "unset CELERY_RESULT_BACKEND")
    return ok("off")


def visibility(setup: Setup) -> Finding:
    """Check that Redis leaves a task to its worker for as long as one may take."""
    if is_amqp(setup.settings.broker_url):
        return ok("RabbitMQ has none: what a worker took is its own while it is connected")
    options = _effective(setup).broker_transport_options
    return judge_visibility(setup, float(options.get("visibility_timeout", 3600)))


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


def protection(_: Setup) -> Finding:
    """Request Flower's pages without a password: at FLOWER_URL, else at the port of `worker up`."""
    # Anyone who can open it can stop workers and change queues.
    address = os.environ.get("FLOWER_URL") or _FLOWER
    try:
        # Without user and password: the check acts as a stranger.
        base = httpx.URL(address).copy_with(userinfo=b"", query=None, fragment=None)
        if base.scheme not in {"http", "https"} or not re.fullmatch(r"[\w.:-]+", base.host):
            return _NO_ADDRESS
        seen = [_status(base, page) for page in _PAGES]
    except (httpx.InvalidURL, ValueError):
        return _NO_ADDRESS
    except httpx.ConnectError:
        return ok("not running at FLOWER_URL" if "FLOWER_URL" in os.environ else "not running here")
    except httpx.HTTPError as error:
        found = f"no answer ({type(error).__name__})"
        return warning(found, "see whether FLOWER_URL, or port 5555 here, is Flower's")
    if HTTPStatus.OK in seen:
        fix = "set FLOWER_BASIC_AUTH to name:password and start it again"
        return fault("it answers without asking who looks", fix)
    return ok("it asks who looks")


def _status(base: httpx.URL, page: str) -> int:
    url = base.copy_with(path=base.path.rstrip("/") + (page or "/"))
    # A redirect leads to the login page, so it proves protection. A proxy would answer instead.
    answer = httpx.get(
        url,
        timeout=_PATIENCE_S,
        follow_redirects=False,
        trust_env=False,
        verify=tls_context(os.environ) if url.scheme == "https" else False,
    )
    return answer.status_code
