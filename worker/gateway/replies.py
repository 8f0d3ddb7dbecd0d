"""Drafts by HTTP: `GET /replies`, `GET /replies/{id}`, `POST /replies/{id}/approve|edit|reject`."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from message_worker_client.envelope.strict_json import JsonRefusedError, read_json
from message_worker_client.envelope.wire import MAX_BODY_BYTES
from worker.domain.errors import DatabaseAwayError, NotFoundError
from worker.domain.ids import ReplyId
from worker.gateway.callers import Callers, SourceRate
from worker.gateway.endpoint import RefusedError, read_body
from worker.handlers.operators.drafts import AlreadyDecidedError, Decided, Drafts
from worker.handlers.operators.take_user import NotPossibleError

MAX_LIST: Final = 100
_MAX_ID: Final = 2**63 - 1
_DIGITS: Final = 19
_VERBS: Final[Mapping[str, Callable[..., Decided]]] = {
    "approve": Drafts.approve,
    "edit": Drafts.edit,
    "reject": Drafts.reject,
}
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class Replies:
    """The endpoints. The name of a signed request is its path, without the first slash."""

    callers: Callers
    rate: SourceRate
    drafts: Drafts

    async def list(self, request: Request) -> Response:
        """List the drafts that wait, oldest first, without texts: 100 of them `after` an id."""
        self._admit(request, b"")
        asked = request.query_params
        after = _number(asked.get("after", "0"), "after")
        found = await _ask(
            lambda: self.drafts.waiting(
                agent=asked.get("agent"), channel=asked.get("channel"), after=after, limit=MAX_LIST
            )
        )
        return _json({"replies": [asdict(one) for one in found]})

    async def get(self, request: Request) -> Response:
        """Show a draft, with its text and the person's messages."""
        self._admit(request, b"")
        reply = _id(request)
        return _json(asdict(await _ask(lambda: self.drafts.show(reply))))

    async def post(self, request: Request) -> Response:
        """Decide about a draft."""
        body = await read_body(request, limit=MAX_BODY_BYTES)
        self._admit(request, body)
        verb: str = request.path_params["verb"]
        decide = _VERBS.get(verb)
        if decide is None:
            raise RefusedError(404, "path", f"one of {', '.join(_VERBS)}")
        reply, given = _id(request), _given(body, edits=verb == "edit")
        return _json(asdict(await _ask(lambda: decide(self.drafts, reply, **given))))

    def _admit(self, request: Request, body: bytes) -> None:
        self.rate.take(request.client.host if request.client else "")
        self.callers.admit(request.headers, body, request.url.path.removeprefix("/"))


async def _ask(do: Callable[[], _Result]) -> _Result:
    """Call the use case on a thread. Raises `RefusedError`."""
    try:
        return await asyncio.to_thread(do)
    except NotFoundError as error:
        raise RefusedError(404, "id", str(error)) from None
    except AlreadyDecidedError as error:
        about = {"decision": error.decision, "by": error.by, "at": error.at.isoformat()}
        raise RefusedError(409, "id", str(error), **about) from None
    except NotPossibleError as error:
        raise RefusedError(409, "id", str(error)) from None
    except DatabaseAwayError:
        raise RefusedError(503, "service", "Postgres does not answer") from None


def _given(body: bytes, *, edits: bool) -> dict[str, str]:
    names = {"by", "text"} if edits else {"by"}
    try:
        document = read_json(body)
    except JsonRefusedError as error:
        raise RefusedError(422, "body", f"give JSON in UTF-8 ({error})") from None
    if not isinstance(document, dict) or document.keys() != names:
        raise RefusedError(422, "body", f"give a JSON object with {' and '.join(sorted(names))}")
    for name, value in document.items():
        if not isinstance(value, str):
            raise RefusedError(422, name, "give a string")
    return document


def _id(request: Request) -> ReplyId:
    reply = _number(request.path_params["id"], "id")
    request.scope["ids"]["reply"] = str(reply)
    return ReplyId(reply)


def _number(given: str, name: str) -> int:
    # Its length first: Python refuses to read a number of thousands of digits.
    is_number = given.isascii() and given.isdecimal() and len(given) <= _DIGITS
    if not is_number or int(given) > _MAX_ID:
        raise RefusedError(422, name, "give the id of a reply")
    return int(given)


def _json(value: object) -> Response:
    return Response(json.dumps(value, default=datetime.isoformat), media_type="application/json")
