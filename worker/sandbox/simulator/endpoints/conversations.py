"""The conversations API without messages: create, list, show, change, delete, and insights."""

import json
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

from worker.sandbox.simulator.behaviour.config import SimulatorConfig
from worker.sandbox.simulator.endpoints.answers import Answer, invalid, ok, refusal
from worker.sandbox.simulator.endpoints.listing import BadFilterError, listed
from worker.sandbox.simulator.record.values import Conversation, Json
from worker.sandbox.simulator.state.state import Exchange, State

_NO_PAGES = {"total_pages": 0, "total_results": 0, "page_number": 1, "page_size": 20}
_WORD = re.compile(r"\w+", re.ASCII)


def create(state: State, exchange: Exchange) -> Answer:
    """POST /ai/conversations: 200 and the bare object."""
    body = json_object(exchange)
    if isinstance(body, Answer):
        return body
    name = body.get("name") or ""
    if not isinstance(name, str):
        return invalid(("body", "name"), "str type expected", "type_error.str")
    metadata = _metadata(body.get("metadata"), state.config)
    if isinstance(metadata, Answer):
        return metadata
    made = state.store.create(exchange.number, name=name, metadata=metadata).listed()
    return ok({"data": made} if state.config.created_wrapped else made)


def index(state: State, exchange: Exchange) -> Answer:
    """GET /ai/conversations, with filters; new ones stay hidden for a while."""
    hidden_s = max(state.config.list_visible_after_s, exchange.plan.hidden_s)
    before = datetime.now(UTC) - timedelta(seconds=hidden_s)
    seen = [each for each in state.store.conversations() if each.created_at <= before]
    try:
        found = listed(seen, exchange.query, state.config)
    except BadFilterError as error:
        return invalid(("query", error.field), str(error))
    return ok({"data": [each.listed() for each in found]})


def show(state: State, exchange: Exchange) -> Answer:
    """GET /ai/conversations/{id}."""
    found = lookup(state, exchange)
    return found if isinstance(found, Answer) else ok({"data": found.listed()})


def change(state: State, exchange: Exchange) -> Answer:
    """PUT /ai/conversations/{id}: metadata only."""
    found, body = lookup(state, exchange), json_object(exchange)
    if isinstance(found, Answer):
        return found
    if isinstance(body, Answer):
        return body
    metadata = _metadata(body.get("metadata"), state.config)
    if isinstance(metadata, Answer):
        return metadata
    if state.config.put_metadata == "merge":
        metadata = {**found.metadata, **metadata}
    state.store.update(exchange.number, found.id, metadata)
    return show(state, exchange)


def delete(state: State, exchange: Exchange) -> Answer:
    """DELETE /ai/conversations/{id}: 200 with an empty body."""
    found = lookup(state, exchange)
    if isinstance(found, Answer):
        return found
    state.store.delete(exchange.number, found.id)
    return Answer()


def lookup(state: State, exchange: Exchange) -> Conversation | Answer:
    """Find the conversation of the path: 422 if it is no uuid, 404 if it does not exist."""
    wanted = canonical_uuid(exchange.conversation_id)
    if wanted is None:
        return invalid(("path", "conversation_id"), "value is not a valid uuid", "type_error.uuid")
    found = state.store.conversation(wanted)
    if found is None:
        return refusal(404, "Conversation Not Found", shape=state.config.ai_error_shape)
    return found


def canonical_uuid(text: object) -> str | None:
    """Return a uuid in lower case with hyphens; None if `text` is none."""
    try:
        return str(UUID(text)) if isinstance(text, str) else None
    except ValueError:
        return None


def json_object(exchange: Exchange) -> Json | Answer:
    """Return the body; 422 if it is no JSON object. No body at all is an empty object."""
    if not exchange.raw:
        return {}
    if isinstance(exchange.payload, dict):
        return exchange.payload
    return invalid(("body",), "the body is no JSON object", "value_error.jsondecode")


def _metadata(given: object, config: SimulatorConfig) -> dict[str, str] | Answer:
    loc = ("body", "metadata")
    if given is None:
        return {}
    if not isinstance(given, dict):
        return invalid(loc, "value is not a valid dict", "type_error.dict")
    if len(given) > config.metadata_max_keys:
        return invalid(loc, "too many keys")
    kept: dict[str, str] = {}
    for key, value in given.items():
        if len(key) > config.metadata_max_key_length:
            return invalid((*loc, key), "ensure this key is shorter")
        if config.metadata_keys == "word" and not _WORD.fullmatch(key):
            return invalid((*loc, key), "a key has letters, digits and underscores")
        if config.metadata_values == "coerced" and isinstance(value, bool | int | float):
            value = json.dumps(value)  # noqa: PLW2901 - the value as it is from here on
        if not isinstance(value, str):
            return invalid((*loc, key), "str type expected", "type_error.str")
        if len(value) > config.metadata_max_value_length:
            return invalid((*loc, key), "ensure this value is shorter")
        kept[key] = value
    return kept


def insights(state: State, exchange: Exchange) -> Answer:
    """GET of a list of insights, of templates, of groups, or of their counts: there are none."""
    if exchange.conversation_id is not None:
        found = lookup(state, exchange)
        if isinstance(found, Answer):
            return found
    path = exchange.path.partition("?")[0]
    if path.endswith("/aggregates"):
        return ok({"data": []})
    if path.endswith(("insights", "insight-groups")):
        return ok({"data": [], "meta": _NO_PAGES})
    return refusal(404, "Insight Not Found", shape=state.config.ai_error_shape)
