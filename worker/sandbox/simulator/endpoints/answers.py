"""The answers that go back over the wire, and the shapes of Telnyx's refusals."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from worker.sandbox.simulator.behaviour.config import ErrorShape
from worker.sandbox.simulator.behaviour.plans import Body, Plan

_JSON = "application/json"

_CODES = {
    400: ("10015", "Bad Request"),
    401: ("10009", "Authentication failed"),
    402: ("20100", "Insufficient Funds"),
    403: ("10010", "Not authorized"),
    404: ("10005", "Resource not found"),
    408: ("10008", "Timeout"),
    409: ("10036", "Request is being processed"),
    413: ("10015", "Request entity too large"),
    422: ("10027", "Unprocessable entity"),
    429: ("10011", "Too many requests"),
    500: ("10007", "Unexpected error"),
    503: ("10037", "Service unavailable"),
}
"""Telnyx's codes of a status, if it documents any; the texts are ours."""

_TITLES = {
    "10002": "Invalid phone number",
    "10004": "Missing required parameter",
    "10005": "Resource not found",
    "10015": "Bad Request",
    "10023": "Invalid JSON",
    "10027": "Unprocessable entity",
    "10036": "Request is being processed",
    "40300": "Blocked due to STOP message",
    "40302": "Message too large",
    "40305": "Invalid 'from' address",
    "40306": "Alphanumeric sender ID not configured",
    "40310": "Invalid 'to' address",
    "40316": "No content provided",
    "40317": "Invalid MMS content",
}
"""Of what is said about a text message; nobody should read them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = _JSON
    headers: tuple[tuple[str, str], ...] = ()
    chunks: tuple[bytes, ...] = ()
    """Of a stream: its events; `body` is empty then."""
    torn: bool = False
    """A stream that is dropped after its last chunk instead of ended."""


def ok(payload: object) -> Answer:
    """200 with JSON."""
    return Answer(body=_dumped(payload))


def refusal(status: int, detail: str, *, shape: ErrorShape, code: str | None = None) -> Answer:
    """Refuse in one of the three shapes of an error."""
    usual, title = _CODES.get(status, ("10007", HTTPStatus(status).phrase))
    code = code or usual
    entry = {
        "code": code,
        "title": title,
        "detail": detail,
        "meta": {"url": f"https://developers.telnyx.com/docs/overview/errors/{code}"},
    }
    error = {
        "message": detail,
        "type": title.lower().replace(" ", "_"),
        "param": None,
        "code": code,
    }
    payloads: dict[ErrorShape, object] = {
        "classic": {"errors": [entry]},
        "detail": {"detail": detail},
        "gateway": {"error": error, "errors": [entry]},
    }
    return Answer(status=status, body=_dumped(payloads[shape]))


def declined(code: str, status: int, detail: str, pointer: str) -> Answer:
    """Refuse a text message. `pointer`: which field of the body, as in RFC 6901."""
    entry = {
        "code": code,
        "title": _TITLES.get(code, "Not sent"),
        "detail": detail,
        "source": {"pointer": pointer},
        "meta": {"url": f"https://developers.telnyx.com/docs/overview/errors/{code}"},
    }
    return Answer(status=status, body=_dumped({"errors": [entry]}))


def invalid(loc: Sequence[str | int], message: str, kind: str = "value_error") -> Answer:
    """Return a 422 in FastAPI's shape."""
    detail = [{"loc": list(loc), "msg": message, "type": kind}]
    return Answer(status=422, body=_dumped({"detail": detail}))


def unauthorized() -> Answer:
    """401 of a missing or wrong key."""
    said = refusal(401, "Could not find any usable credentials in the request.", shape="classic")
    return Answer(status=401, body=said.body, headers=(("www-authenticate", "Bearer"),))


def no_such_route() -> Answer:
    """404 of a wrong path or method."""
    return refusal(404, "The requested resource or URL could not be found.", shape="classic")


def planned_refusal(plan: Plan, shape: ErrorShape) -> Answer:
    """Return the refusal that a fault plays."""
    match plan.body:
        case Body.EMPTY:
            return Answer(status=plan.status, content_type="text/plain")
        case Body.HTML:
            return gateway_page(plan.status)
        case Body.JSON:
            said = refusal(plan.status, plan.detail, shape=shape, code=plan.code)
            return Answer(status=plan.status, body=said.body, headers=_waits(plan))


def gateway_page(status: int) -> Answer:
    """Return the answer of a proxy in front of Telnyx."""
    phrase = HTTPStatus(status).phrase
    page = f"<html><head><title>{status} {phrase}</title></head><body>{phrase}</body></html>"
    return Answer(status=status, body=page.encode(), content_type="text/html")


def _waits(plan: Plan) -> tuple[tuple[str, str], ...]:
    headers: list[tuple[str, str]] = []
    if plan.retry_after_s is not None:
        headers.append(("retry-after", f"{plan.retry_after_s:g}"))
    if plan.reset_s is not None:
        headers.append(("x-ratelimit-limit", "2000, 2000;w=1"))
        headers.append(("x-ratelimit-remaining", "0"))
        headers.append(("x-ratelimit-reset", f"{plan.reset_s:g}"))
    return tuple(headers)


def _dumped(payload: Any) -> bytes:  # noqa: ANN401 - whatever JSON can say
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
