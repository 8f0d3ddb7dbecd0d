"""What all endpoints share: bounded bodies, refusals, and the count and log line of a request."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from message_worker_client.envelope.storable import replace_unstorable
from message_worker_client.envelope.strict_json import JsonRefusedError, read_json
from worker.domain.errors import named
from worker.observability import metrics
from worker.observability.logs import log

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
_READ_S: Final = 10.0
"""The longest that a body may take to arrive."""


class RefusedError(Exception):
    """The request is answered with this status. The text is fixed: it quotes no request."""

    def __init__(self, status: int, field: str, fix: str, **about: str) -> None:
        """`about`: what else the answer says, and no log."""
        super().__init__(fix)
        self.status = status
        self.error = {"field": field, "fix": fix, **about}


async def read_body(request: Request, *, limit: int, within_s: float = _READ_S) -> bytes:
    """Read a body of at most `limit` bytes, compressed by nobody. Raises `RefusedError`."""
    too_large = RefusedError(413, "body", f"at most {limit} bytes")
    if int(request.headers.get("content-length", 0)) > limit:  # the server has checked its form
        raise too_large
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RefusedError(415, "content-encoding", "send the body as it is")
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(within_s):
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise RefusedError(400, "body", "it was cut off")
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        raise RefusedError(408, "body", f"send it within {within_s:.0f} s") from None
    return bytes(body)


def read_document(body: bytes) -> Any:  # noqa: ANN401 - JSON
    """Read signed JSON. Raises `RefusedError`.

    What Postgres cannot store is replaced: a phone may send half of a surrogate pair.
    """
    try:
        return read_json(body)
    except JsonRefusedError as error:
        if error.fault != "not_storable":
            raise RefusedError(400, "body", str(error)) from None
    return _storable(json.loads(body))


def _storable(value: Any) -> Any:  # noqa: ANN401 - JSON; its depth is bounded
    match value:
        case str():
            return replace_unstorable(value, "\ufffd")
        case list():
            return [_storable(one) for one in value]
        case dict():
            return {_storable(name): _storable(one) for name, one in value.items()}
        case _:
            return value


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
