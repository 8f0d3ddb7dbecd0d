"""`GET /health/live` and `GET /health/ready`, answered in time whatever hangs."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

ANSWER_S: Final = 2.0
"""For each server; a probe of Kubernetes or a load balancer waits for longer."""


async def live(_: Request) -> Response:
    """Answer."""
    return JSONResponse({"live": True})


class Ready:
    """Ready while one of the servers answers, since either stores what comes in."""

    def __init__(self, checks: Mapping[str, Callable[[], object]]) -> None:
        """Take the checks by the servers' names; one raises if its server does not answer."""
        self._checks = {name: _Check(check) for name, check in checks.items()}

    async def answer(self, _: Request) -> Response:
        """Ask one after the other, until one answers."""
        away: list[str] = []
        for name, check in self._checks.items():
            if await check.passes():
                return JSONResponse({"ready": True, "away": away})
            away.append(name)
        return JSONResponse({"ready": False, "away": away}, 503)


class _Check:
    """Probes that come while it runs share it: one that hangs takes one thread."""

    def __init__(self, check: Callable[[], object]) -> None:
        self._check = check
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="check")
        self._running: asyncio.Future[object] | None = None

    async def passes(self) -> bool:
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().run_in_executor(self._thread, self._check)
        running = self._running
        await asyncio.wait([running], timeout=ANSWER_S)
        return running.done() and running.exception() is None
