"""Carries out one request by its plan: stores, answers and logs."""

import asyncio
from collections.abc import Callable
from functools import partial

from worker.sandbox.simulator.behaviour.plans import Endpoint, Storing, Wire
from worker.sandbox.simulator.endpoints import conversations, messages, responses
from worker.sandbox.simulator.endpoints.answers import (
    Answer,
    gateway_page,
    no_such_route,
    ok,
    planned_refusal,
)
from worker.sandbox.simulator.endpoints.idempotency import once
from worker.sandbox.simulator.endpoints.messaging import mailing, profiles, sending
from worker.sandbox.simulator.record.values import Json
from worker.sandbox.simulator.state.state import Exchange, State

_PLAIN: dict[Endpoint, Callable[[State, Exchange], Answer]] = {
    Endpoint.LIST: conversations.index,
    Endpoint.RETRIEVE: conversations.show,
    Endpoint.UPDATE: conversations.change,
    Endpoint.DELETE: conversations.delete,
    Endpoint.MESSAGES: messages.index,
    Endpoint.INSIGHTS: conversations.insights,
    Endpoint.SENT: sending.show,
    Endpoint.PUBLIC_KEY: sending.public_key,
    Endpoint.OPT_OUTS: profiles.opt_outs,
    Endpoint.PROFILES: profiles.show,
}


async def carry_out(state: State, exchange: Exchange) -> Answer | None:
    """Do what the request asks for, or not. None: there will be no answer, whatever the wire."""
    plan = exchange.plan
    match plan.storing:
        case Storing.WHOLE | Storing.INPUT:
            answer = await _within_edge(state, exchange)
        case Storing.NOTHING:
            answer = ok({"object": "response", "status": "in_progress", "output": []})
            if plan.wire is not Wire.HANG:
                state.end(exchange)
        case Storing.LATER | Storing.AFTER_CLIENT_LEFT:
            exchange.goes_on = True
            state.spawn(_later(state, exchange))
            answer = None
    if plan.wire is Wire.REFUSAL:
        # The messaging API knows no other shape.
        classic = exchange.endpoint is Endpoint.SEND
        return planned_refusal(plan, "classic" if classic else state.config.fault_error_shape)
    return answer


async def _later(state: State, exchange: Exchange) -> None:
    if exchange.plan.storing is Storing.AFTER_CLIENT_LEFT:
        await state.departures.wait(exchange.gone)
    await asyncio.sleep(exchange.plan.after_s)
    await _operate(state, exchange)
    state.end(exchange)


async def _within_edge(state: State, exchange: Exchange) -> Answer | None:
    """Run it; if it takes too long, the edge answers and it runs on."""
    work = asyncio.ensure_future(_operate(state, exchange))
    try:
        await asyncio.wait({work}, timeout=state.config.edge_timeout_s)
    except asyncio.CancelledError:
        work.cancel()
        raise
    if work.done():
        answer = work.result()
        if answer is not None or exchange.plan.wire is not Wire.HANG:
            state.end(exchange)
        return answer
    exchange.goes_on = True
    state.spawn(_finish(state, exchange, work))
    return gateway_page(504)


async def _finish(state: State, exchange: Exchange, work: asyncio.Future[Answer | None]) -> None:
    try:
        await work
    finally:
        work.cancel()
    state.end(exchange)


async def _operate(state: State, exchange: Exchange) -> Answer | None:
    match exchange.endpoint:
        case Endpoint.RESPONSES:
            return await responses.create(state, exchange)
        case Endpoint.CREATE:
            return await once(state, exchange, partial(conversations.create, state, exchange))
        case Endpoint.ADD_MESSAGE:
            return await once(state, exchange, partial(messages.add, state, exchange))
        case Endpoint.SEND:
            is_mail = exchange.path.partition("?")[0].endswith("/email_messages")
            create = mailing.create if is_mail else sending.create
            answer = await once(state, exchange, partial(create, state, exchange))
            await sending.told_first(exchange)
            return answer
        case Endpoint.MODELS:
            return ok({"object": "list", "data": [_model(each) for each in state.models()]})
        case Endpoint.UNKNOWN | Endpoint.ANY:
            return no_such_route()
        case _:
            await asyncio.sleep(state.config.other_latency_s)
            return _PLAIN[exchange.endpoint](state, exchange)


def _model(name: str) -> Json:
    return {
        "id": name,
        "object": "model",
        "created": "2026-08-01T00:00:00Z",
        "owned_by": "Telnyx",
        "organization": name.partition("/")[0],
        "license": "MIT",
        "languages": ["en"],
        "parameters": 30_000_000_000,
        "parameters_str": "30B",
        "context_length": 202_752,
        "max_completion_tokens": None,
        "tier": "small",
        "task": "text-generation",
        "is_vision_supported": False,
        "is_fine_tunable": False,
        "recommended_for_assistants": True,
        "regions": ["us-central-1"],
        "service_tiers": ["default", "priority"],
        "pricing": {
            "prompt": "0.10",
            "completion": "0.40",
            "currency": "USD",
            "unit": "1M_tokens",
        },
    }
