"""The messages of a conversation: read page by page, and added outside of any response."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from worker.sandbox.simulator.behaviour.config import SimulatorConfig
from worker.sandbox.simulator.endpoints.answers import Answer, invalid, ok
from worker.sandbox.simulator.endpoints.conversations import json_object, lookup
from worker.sandbox.simulator.record.values import Draft, Json, Message, ToolCall, timestamp
from worker.sandbox.simulator.state.state import Exchange, State

_MAX_PAGE = 100


def index(state: State, exchange: Exchange) -> Answer:
    """GET /ai/conversations/{id}/messages, page by page."""
    found = lookup(state, exchange)
    if isinstance(found, Answer):
        return found
    asked = dict(exchange.query)
    size, number = _whole(asked, "page[size]", 20), _whole(asked, "page[number]", 1)
    if size is None or size > _MAX_PAGE:
        return invalid(("query", "page[size]"), "ensure this value is from 1 to 100")
    if number is None:
        return invalid(("query", "page[number]"), "ensure this value is at least 1")
    shown = _shown(state, found.id, exchange.plan.stale_s)
    page = shown[(number - 1) * size : number * size]
    meta = {
        "total_pages": -(-len(shown) // size),
        "total_results": len(shown),
        "page_number": number,
        "page_size": size,
    }
    return ok({"data": [_listed(each, state.config) for each in page], "meta": meta})


def add(state: State, exchange: Exchange) -> Answer:
    """POST /ai/conversations/{id}/message: stores, runs no model."""
    found, body = lookup(state, exchange), json_object(exchange)
    if isinstance(found, Answer):
        return found
    if isinstance(body, Answer):
        return body
    try:
        draft, sent_at = _draft(body), _moment(body.get("sent_at"))
    except (ValueError, TypeError, KeyError):
        return invalid(("body",), "role, content, sent_at or tool_calls cannot be read")
    state.store.add(exchange.number, found.id, [draft], sent_at=sent_at)
    return Answer()


def _whole(asked: dict[str, str], name: str, usual: int) -> int | None:
    text = asked.get(name)
    if text is None:
        return usual
    return int(text) if text.isdecimal() and int(text) >= 1 else None


def _shown(state: State, conversation_id: str, stale_s: float) -> Sequence[Message]:
    stale_s = max(state.config.messages_stale_s, stale_s)
    before = datetime.now(UTC) - timedelta(seconds=stale_s)
    thread = state.store.thread(conversation_id)
    shown = [each for each in thread if not stale_s or each.created_at <= before]
    match state.config.messages_order:
        case "newest_first":
            shown.reverse()
        case "shuffled":
            random.Random(conversation_id).shuffle(shown)  # noqa: S311 - no secret
        case "oldest_first":
            pass
    return shown


def _listed(message: Message, config: SimulatorConfig) -> Json:
    shown: Json = {
        "role": message.role,
        "text": message.text,
        "created_at": timestamp(message.created_at, config.timestamp_digits),
        "sent_at": timestamp(message.sent_at, config.timestamp_digits),
    }
    if message.tool_calls:
        shown["tool_calls"] = [call.listed() for call in message.tool_calls]
    if message.metadata:
        shown["metadata"] = message.metadata
    if message.tool_call_id is not None and config.tool_call_id_listed:
        shown["tool_call_id"] = message.tool_call_id
    return shown


def _draft(body: Json) -> Draft:
    role, content, metadata = body["role"], body.get("content", ""), body.get("metadata") or {}
    if not (isinstance(role, str) and isinstance(content, str) and isinstance(metadata, dict)):
        raise TypeError("role and content are strings, metadata an object")
    call_id = body.get("tool_call_id")
    return Draft(
        role=role,
        text=content,
        origin="added",
        tool_calls=tuple(_tool_call(each) for each in body.get("tool_calls") or ()),
        tool_call_id=None if call_id is None else str(call_id),
        metadata=metadata,
    )


def _tool_call(given: Json) -> ToolCall:
    function = given["function"]
    name, arguments = str(function["name"]), str(function["arguments"])
    return ToolCall(id=str(given["id"]), name=name, arguments=arguments)


def _moment(given: object) -> datetime | None:
    if given is None:
        return None
    moment = datetime.fromisoformat(str(given))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
