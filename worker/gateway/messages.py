"""`POST /messages` and `GET /messages/{id}`: the way in for any producer that speaks HTTP."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from message_worker_client.envelope import EnvelopeError
from message_worker_client.envelope.strict_json import JsonRefusedError, read_json
from message_worker_client.envelope.wire import (
    DEPTH_AROUND,
    MAX_BODY_BYTES,
    MAX_DEPTH,
    MAX_ENTRY_BYTES,
    MAX_LIST,
    RECEIVE,
)
from worker.domain.errors import DatabaseAwayError
from worker.domain.ids import given_id
from worker.domain.routing import Routing
from worker.gateway.callers import Callers, SourceRate
from worker.gateway.endpoint import RefusedError, read_body
from worker.gateway.storage import Storage, Task
from worker.handlers.intake.route import parse_and_route
from worker.handlers.intake.take_event import InboxEntry
from worker.store.reports.by_id import MessageById

_AROUND: Final = 1024
"""Bytes of a Celery task around its envelope, at most."""


@dataclass(frozen=True, kw_only=True)
class Messages:
    """The two endpoints."""

    callers: Callers
    rate: SourceRate
    storage: Storage
    routing: Callable[[], Routing]
    namespace: UUID
    outcomes: MessageById
    link: str
    """What an id is appended to."""

    async def post(self, request: Request) -> Response:
        """Queue one envelope, or a list of them, each with a status of its own."""
        source = request.client.host if request.client else ""
        self.rate.take(source)
        has_token = self.callers.has_token(request.headers)
        body = await read_body(request, limit=MAX_ENTRY_BYTES)
        if not has_token:
            self.callers.check_signature(request.headers, body)
        try:
            document = read_json(body, max_depth=MAX_DEPTH - DEPTH_AROUND)
        except JsonRefusedError as error:
            raise RefusedError(422, "envelope", f"give JSON in UTF-8 ({error})") from None
        if not isinstance(document, list):
            answer = await self._one(document)
            return JSONResponse(answer, answer.pop("status"))
        if not 1 <= len(document) <= MAX_LIST:
            raise RefusedError(422, "envelope", f"give one, or a list of 1 to {MAX_LIST}")
        self.rate.take(source, len(document) - 1)
        answers = await asyncio.gather(*map(self._one, document))
        statuses = {answer["status"] for answer in answers}
        return JSONResponse(answers, statuses.pop() if len(statuses) == 1 else 207)

    async def get(self, request: Request) -> Response:
        """Show what became of a message."""
        self.rate.take(request.client.host if request.client else "")
        given: str = request.path_params["id"]
        self.callers.admit(request.headers, b"", given)
        try:
            found = await asyncio.to_thread(self.outcomes.find, UUID(given))
        except ValueError:
            found = None
        except DatabaseAwayError:
            raise RefusedError(503, "service", "Postgres does not answer") from None
        if found is None:
            raise RefusedError(404, "id", "no message has it")
        return JSONResponse({"id": given, **found})

    async def _one(self, document: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        try:
            message = parse_and_route(document, self.routing())
            who = message.who
            name = given_id(
                self.namespace,
                *(who.channel, who.recipient, who.address, who.thread, message.message_id),
            )
            task = Task(RECEIVE, str(name), {"envelope": document})
            _check_size(message.envelope)
            await self.storage.store(InboxEntry(name, message.envelope), task)
        except EnvelopeError as error:
            return {"status": 422, "error": {"field": error.field, "fix": error.fix}}
        except RefusedError as error:
            return {"status": error.status, "error": error.error}
        return {"status": 202, "id": str(name), "link": f"{self.link}/{name}"}


def _check_size(envelope: str) -> None:
    most = MAX_BODY_BYTES - _AROUND
    if len(envelope.encode()) > most:
        raise EnvelopeError("too_large", "envelope", f"at most {most} bytes of UTF-8")
