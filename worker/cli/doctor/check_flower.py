"""Flower: whether it is protected. Anyone who can open it can stop workers and change queues."""

import os
import re
from http import HTTPStatus
from typing import Final

import httpx

from worker.cli.doctor.examine import Setup
from worker.domain.reports.finding import Finding, fault, ok, warning
from worker.net.dial import tls_context

_DEFAULT: Final = "http://127.0.0.1:5555"
_PAGES: Final = ("", "/api/workers")
_PATIENCE_S: Final = 2.0
_NO_ADDRESS: Final = fault("FLOWER_URL is no address", "give http://host:5555")


def protection(_: Setup) -> Finding:
    """Request its pages without a password: at FLOWER_URL, else at the port of `worker up`."""
    address = os.environ.get("FLOWER_URL") or _DEFAULT
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
