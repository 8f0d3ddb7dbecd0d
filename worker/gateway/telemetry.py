"""What the gateway counts and logs of a request: its endpoint, status, time, and ids."""

import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from worker.domain.errors import named
from worker.gateway.body import RefusedError
from worker.observability import metrics
from worker.observability.logs import log

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


def endpoint(name: str, handler: Handler) -> Handler:
    """Answer refusals and defects, count and log. `request.scope["ids"]` are logged."""
    # At zero from the start, for the alert: `increase()` does not see a first increment.
    metrics.REQUESTS.labels(name, HTTPStatus.SERVICE_UNAVAILABLE.value)
    seconds = metrics.REQUEST.labels(name)

    async def answer(request: Request) -> Response:
        began = time.perf_counter()
        ids = request.scope["ids"] = dict[str, str | None]()
        fault = None
        try:
            response = await handler(request)
        except RefusedError as error:
            response = JSONResponse({"error": error.error}, error.status)
            fault = error.error["fix"]
        except Exception as error:  # noqa: BLE001 - its text may quote the request
            response = JSONResponse({"error": {"field": "service", "fix": "see its log"}}, 500)
            fault = named(error)
        took_s = time.perf_counter() - began
        metrics.REQUESTS.labels(name, response.status_code).inc()
        seconds.observe(took_s)
        log.info(
            "gateway.answered",
            endpoint=name,
            status=response.status_code,
            ms=round(took_s * 1000, 1),
            **ids,
            **({} if fault is None else {"fault": fault}),
        )
        return response

    return answer
