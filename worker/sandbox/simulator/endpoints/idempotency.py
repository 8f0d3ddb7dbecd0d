"""`Idempotency-Key`: one key, one body, one effect; only successes are kept and replayed."""

import asyncio
import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime

from worker.sandbox.simulator.behaviour.plans import Endpoint
from worker.sandbox.simulator.endpoints.answers import Answer, declined, invalid, refusal
from worker.sandbox.simulator.record.events import IdempotencyKept
from worker.sandbox.simulator.state.state import Exchange, State

_KEY = re.compile(r"[A-Za-z0-9_:-]{1,255}")


async def once(state: State, exchange: Exchange, work: Callable[[], Answer]) -> Answer:
    """Do `work` unless its key was used: replay, or 422 for another body, or 409 while it runs."""
    key = exchange.headers.get("idempotency-key")
    if key is None:
        await asyncio.sleep(state.config.other_latency_s)
        return work()
    if not _KEY.fullmatch(key):
        return _unfit(exchange, "string does not match the pattern")
    scope = f"{exchange.method} {exchange.path.partition('?')[0]} {key}"
    fingerprint = hashlib.sha256(repr(exchange.query).encode() + exchange.raw).hexdigest()
    if (running := state.running_keys.get(scope)) is not None:
        return _conflict(state, exchange) if running == fingerprint else _other(exchange)
    if (answer := _replayed(state, exchange, scope, fingerprint)) is not None:
        return answer
    state.running_keys[scope] = fingerprint
    try:
        await asyncio.sleep(state.config.other_latency_s)
        answer = work()
    finally:
        del state.running_keys[scope]
    if answer.status < 300:  # noqa: PLR2004 - the successes
        state.store.keep(
            IdempotencyKept(
                request=exchange.number,
                scope=scope,
                fingerprint=fingerprint,
                kept_at=datetime.now(UTC),
                status=answer.status,
                body=answer.body.decode(),
            )
        )
    return answer


def _replayed(state: State, exchange: Exchange, scope: str, fingerprint: str) -> Answer | None:
    kept = state.store.kept(scope)
    if kept is None:
        return None
    if (datetime.now(UTC) - kept.kept_at).total_seconds() > state.config.idempotency_ttl_s:
        return None
    if kept.fingerprint != fingerprint:
        return _other(exchange)
    headers = (("Idempotent-Replayed", "true"),)
    return Answer(status=kept.status, body=kept.body.encode(), headers=headers)


def _other(exchange: Exchange) -> Answer:
    return _unfit(exchange, "the key was used with another request")


def _unfit(exchange: Exchange, message: str) -> Answer:
    if exchange.endpoint is Endpoint.SEND:
        return declined("10027", 422, message, "/Idempotency-Key")
    return invalid(("header", "Idempotency-Key"), message)


def _conflict(state: State, exchange: Exchange) -> Answer:
    detail = "A request with this idempotency key is still being processed."
    classic = exchange.endpoint is Endpoint.SEND
    return refusal(409, detail, shape="classic" if classic else state.config.ai_error_shape)
