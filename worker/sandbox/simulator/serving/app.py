"""The HTTP side: from a request on a socket to an exchange, and back.

read ▸ logged as received ▸ key checked ▸ fault chosen ▸ carried out ▸ put on the wire
"""

import asyncio
import hashlib
import json
import re

from aiohttp import web

from worker.sandbox.simulator.behaviour.faults import HEADER, Choice
from worker.sandbox.simulator.behaviour.plans import Endpoint, Plan, plan_detail
from worker.sandbox.simulator.endpoints.admin import Handler, admin_routes
from worker.sandbox.simulator.endpoints.answers import (
    Answer,
    invalid,
    no_such_route,
    refusal,
    unauthorized,
)
from worker.sandbox.simulator.record.events import FaultChosen, RequestReceived
from worker.sandbox.simulator.serving.execution import carry_out
from worker.sandbox.simulator.serving.wire import Delivery
from worker.sandbox.simulator.state.state import Exchange, State

_CONVERSATIONS = r"/v2/ai/conversations"
_ONE = _CONVERSATIONS + r"/(?P<id>[^/]+)"
_INSIGHTS = _CONVERSATIONS + r"/(insights|insight-groups)(/[^/]+)?"
_INSIGHTS = rf"{_INSIGHTS}|{_CONVERSATIONS}/conversation-insights/aggregates"
_ROUTES = tuple(
    (method, re.compile(pattern), endpoint)
    for method, pattern, endpoint in (
        ("POST", _CONVERSATIONS, Endpoint.CREATE),
        ("GET", _CONVERSATIONS, Endpoint.LIST),
        ("GET", _INSIGHTS, Endpoint.INSIGHTS),
        ("GET", _ONE + "/conversations-insights", Endpoint.INSIGHTS),
        ("GET", _ONE, Endpoint.RETRIEVE),
        ("PUT", _ONE, Endpoint.UPDATE),
        ("DELETE", _ONE, Endpoint.DELETE),
        ("GET", _ONE + "/messages", Endpoint.MESSAGES),
        ("POST", _ONE + "/message", Endpoint.ADD_MESSAGE),
        ("POST", r"/v2/ai(/openai)?/responses", Endpoint.RESPONSES),
        ("GET", r"/v2/ai(/openai)?/models", Endpoint.MODELS),
        ("POST", r"/v2/messages(/whatsapp)?", Endpoint.SEND),
        ("POST", r"/v2/email_messages", Endpoint.SEND),
        ("GET", r"/v2/messaging_optouts", Endpoint.OPT_OUTS),
        (
            "GET",
            r"/v2/messaging_profiles(/[^/]+(/(phone_numbers|autoresp_configs))?)?",
            Endpoint.PROFILES,
        ),
        ("GET", r"/v2/10dlc/phone_number_campaigns/[^/]+", Endpoint.PROFILES),
        ("GET", r"/v2/messages/[^/]+", Endpoint.SENT),
        ("GET", r"/v2/public_key", Endpoint.PUBLIC_KEY),
    )
)
_HARD_LIMIT_BYTES = 64 * 1024 * 1024


def build_app(state: State) -> web.Application:
    """Return the application: the API under /v2, the controls under /sim."""

    async def serve(request: web.Request) -> web.StreamResponse:
        exchange = await _received(state, request)
        delivery = Delivery(state, exchange, request)
        try:
            answer = _turned_away(state, exchange, request)
            if answer is None:
                answer = await carry_out(state, exchange)
            else:
                state.end(exchange)
            response = await delivery.put(answer)
        except asyncio.CancelledError:
            delivery.give_up()
            raise
        if not exchange.goes_on:
            state.end(exchange)
        return response

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        locked = state.config.lock_controls and request.path.startswith("/sim/")
        if locked and not _has_key(state, request):
            return web.json_response({"detail": "the controls want the key"}, status=401)
        return await handler(request)

    app = web.Application(client_max_size=_HARD_LIMIT_BYTES, middlewares=[guard])
    app.add_routes(admin_routes(state))
    app.router.add_route("*", "/{tail:.*}", serve)
    return app


async def _received(state: State, request: web.Request) -> Exchange:
    raw = await request.read()
    endpoint, conversation_id = _routed(request)
    payload = _parsed(raw)
    if endpoint is Endpoint.RESPONSES and isinstance(payload, dict):
        named = payload.get("conversation")
        conversation_id = named if isinstance(named, str) else None
    headers = {name.lower(): _clean(value) for name, value in request.headers.items()}
    headers.pop("authorization", None)
    number = state.log.append(
        RequestReceived(
            method=request.method,
            path=_clean(request.raw_path),
            endpoint=endpoint,
            conversation_id=conversation_id,
            headers=headers,
            body_bytes=len(raw),
            body_digest=hashlib.sha256(raw).hexdigest(),
            body=payload,
        )
    )
    return Exchange(
        number=number,
        endpoint=endpoint,
        method=request.method,
        path=request.raw_path,
        query=tuple(request.query.items()),
        headers=headers,
        raw=raw,
        payload=payload,
        conversation_id=conversation_id,
        gone=lambda: request.transport is None or request.transport.is_closing(),
    )


def _has_key(state: State, request: web.Request) -> bool:
    return request.headers.get("authorization", "") == f"Bearer {state.config.api_key}"


def _turned_away(state: State, exchange: Exchange, request: web.Request) -> Answer | None:
    """Return the refusal before any work; None = the request may pass."""
    if not _has_key(state, request):
        return unauthorized()
    if exchange.endpoint is Endpoint.UNKNOWN:
        return no_such_route()
    if len(exchange.raw) > state.config.max_body_bytes:
        return refusal(413, "The request is too large.", shape=state.config.ai_error_shape)
    try:
        choice = state.faults.choose(
            endpoint=exchange.endpoint,
            conversation_id=exchange.conversation_id,
            body=exchange.raw.decode(errors="replace"),
            header=exchange.headers.get(HEADER),
            chances=state.config.fault_chances,
        )
    except ValueError as error:
        return invalid(("header", HEADER), str(error))
    exchange.plan = _noted(state, exchange, choice)
    return None


def _noted(state: State, exchange: Exchange, choice: Choice) -> Plan:
    if choice.fault is not None:
        state.log.append(
            FaultChosen(
                request=exchange.number,
                name=choice.fault,
                source=choice.source,
                plan=plan_detail(choice.plan),
            )
        )
    return choice.plan


def _routed(request: web.Request) -> tuple[Endpoint, str | None]:
    for method, pattern, endpoint in _ROUTES:
        found = pattern.fullmatch(request.path)
        if found and method == request.method:
            return endpoint, found.groupdict().get("id")
    return Endpoint.UNKNOWN, None


def _parsed(raw: bytes) -> object:
    """Return the JSON; None if it is not JSON, or has text that is no Unicode."""
    try:
        payload: object = json.loads(raw)
        json.dumps(payload, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return payload


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
