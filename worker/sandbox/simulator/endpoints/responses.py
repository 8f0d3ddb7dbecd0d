"""The Responses endpoint: a model run on a thread, and the thread is changed before the answer is.

checked ──▶ input stored ──▶ the model thinks ──▶ output stored ──▶ answer
"""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace

from worker.sandbox.simulator.behaviour.model import Said, Task, response, say, tokens
from worker.sandbox.simulator.behaviour.plans import Disturbance, Items, Storing, Stream
from worker.sandbox.simulator.endpoints.answers import Answer, invalid, ok, refusal
from worker.sandbox.simulator.endpoints.conversations import canonical_uuid, json_object
from worker.sandbox.simulator.endpoints.items import (
    BadInputError,
    drafts,
    rearranged,
    unanswered_calls,
)
from worker.sandbox.simulator.endpoints.stream import streamed
from worker.sandbox.simulator.record.values import Draft, Json
from worker.sandbox.simulator.state.state import Exchange, State, new_id

_DOCUMENTED = {"model", "input", "conversation", "instructions", "stream", "reasoning"}
_DOCUMENTED |= {"region", "mode", "service_tier"}
"""The fields in Telnyx's schema of a request."""
_BARE = ("id", "object", "status", "model", "output", "error", "incomplete_details")
"""Without what no reader of a reply needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request for a response that makes sense."""

    conversation_id: str | None
    """None: stateless, nothing is stored."""
    said: tuple[Draft, ...]
    instructions: str | None
    model: str
    tools: object
    stream: bool

    @property
    def tool_names(self) -> frozenset[str]:
        """Names of the functions that the model may call."""
        listed = self.tools if isinstance(self.tools, list) else []
        return frozenset(str(tool.get("name")) for tool in listed if isinstance(tool, dict))


async def create(state: State, exchange: Exchange) -> Answer | None:
    """POST /ai/openai/responses. None: the input was stored and there will be no answer."""
    call = _read(state, exchange)
    if isinstance(call, Answer):
        return call
    if exchange.plan.disturbance is Disturbance.DELETED and call.conversation_id:
        state.store.delete(None, call.conversation_id)
    waiting = _turnstile(state, call.conversation_id)
    if waiting is None:
        detail = "The conversation is in use by another request."
        return refusal(409, detail, shape=state.config.ai_error_shape)
    async with waiting:
        return _refused(state, call) or await _run(state, exchange, call)


async def _run(state: State, exchange: Exchange, call: Call) -> Answer | None:
    on_arrival = state.config.input_stored == "on_arrival"
    if exchange.plan.disturbance is Disturbance.FOREIGN_BEFORE:
        _interfere(state, exchange, call)
    if on_arrival:
        _store_input(state, exchange, call)
    await asyncio.sleep(state.latency_s())
    if call.conversation_id and state.store.conversation(call.conversation_id) is None:
        return _no_conversation(state)
    if not on_arrival:
        _store_input(state, exchange, call)
    if exchange.plan.storing is Storing.INPUT:
        return None
    said = _think(state, exchange, call)
    if call.conversation_id:
        state.store.add(exchange.number, call.conversation_id, _kept(said, state))
    if exchange.plan.disturbance is Disturbance.FOREIGN_AFTER:
        _interfere(state, exchange, call)
    body = _body(state, call, said)
    if call.stream and exchange.plan.stream is not Stream.JSON:
        marker = state.config.stream_done_marker
        return streamed(body, fault=exchange.plan.stream, done_marker=marker)
    return ok(body)


def _body(state: State, call: Call, said: Said) -> Json:
    body = response(said, response_id=new_id("resp"), model=call.model, tools=call.tools)
    if state.config.answer_fields == "bare":
        body = {name: body[name] for name in _BARE}
    if state.config.echo_conversation and call.conversation_id:
        body["conversation"] = {"id": call.conversation_id}
    return body


def _think(state: State, exchange: Exchange, call: Call) -> Said:
    if call.conversation_id:
        history: tuple[Draft, ...] = state.store.thread(call.conversation_id)
    else:
        history = call.said
    newest = call.said[-1].text or "" if call.said else ""
    task = Task(
        history=history,
        tools=call.tool_names,
        output=exchange.plan.output,
        script=state.script_for(newest),
        reasoning=state.config.reasoning,
        show_prefix=state.config.show_prefix,
    )
    return say(task, new_id)


def _store_input(state: State, exchange: Exchange, call: Call) -> None:
    key, items = call.conversation_id, exchange.plan.items
    if key is None:
        return
    role = state.config.instructions_listed
    if call.instructions and role != "hidden" and _is_told(state, key, call.instructions):
        draft = Draft(role=role, text=call.instructions, origin="instructions")
        state.store.add(exchange.number, key, [draft])
    said = rearranged(call.said, items)
    thread = [each for each in state.store.thread(key) if each.origin != "instructions"]
    if items is Items.MERGED and said and thread and thread[-1].role == said[-1].role == "user":
        state.store.extend_last(exchange.number, key, said[-1].text or "")
        said = said[:-1]
    state.store.add(exchange.number, key, said)


def _is_told(state: State, key: str, instructions: str) -> bool:
    if state.config.instructions_repeated:
        return True
    thread = state.store.thread(key)
    return all(each.text != instructions for each in thread if each.origin == "instructions")


def _kept(said: Said, state: State) -> Sequence[Draft]:
    match state.config.reasoning_listed:
        case "hidden":
            return [each for each in said.drafts if each.origin != "reasoning"]
        case "text":
            thought = "Somebody wrote; I should answer kindly."
            return [
                replace(each, text=thought) if each.origin == "reasoning" else each
                for each in said.drafts
            ]
        case "empty":
            return said.drafts


def _interfere(state: State, exchange: Exchange, call: Call) -> None:
    if call.conversation_id:
        plan = exchange.plan
        foreign = Draft(role=plan.foreign_role, text=plan.foreign_text, origin="foreign")
        state.store.add(None, call.conversation_id, [foreign])


def _read(state: State, exchange: Exchange) -> Call | Answer:
    body = json_object(exchange)
    if isinstance(body, Answer):
        return body
    try:
        said = drafts(body.get("input"), state.config)
    except BadInputError as error:
        return invalid(error.loc, str(error))
    return _checked(state, body, said)


def _checked(state: State, body: Json, said: tuple[Draft, ...]) -> Call | Answer:
    shape = state.config.ai_error_shape
    conversation, instructions = body.get("conversation"), body.get("instructions")
    canonical = canonical_uuid(conversation)
    if conversation is not None and canonical is None:
        return invalid(("body", "conversation"), "value is not a valid uuid", "type_error.uuid")
    if instructions is not None and not isinstance(instructions, str):
        return invalid(("body", "instructions"), "str type expected", "type_error.str")
    if state.config.undocumented_fields == "refused" and (more := body.keys() - _DOCUMENTED):
        return invalid(("body", min(more)), "extra fields not permitted", "value_error.extra")
    if body.get("mode") is not None and body.get("region") is None:
        return invalid(("body", "mode"), "mode requires region")
    if body.get("previous_response_id") is not None:
        detail = "previous_response_id is not supported, use conversation."
        return refusal(400, detail, shape=shape)
    model = body.get("model") or next(iter(state.models()), None)
    if model not in state.models():
        status = state.config.unavailable_model_status
        return refusal(status, f"The model {model} is not available.", shape=shape)
    return Call(
        conversation_id=canonical,
        said=said,
        instructions=instructions,
        model=str(model),
        tools=_tools(state, body),
        stream=body.get("stream") is True,
    )


def _tools(state: State, body: Json) -> object:
    if state.config.undocumented_fields == "ignored" or body.get("tool_choice") == "none":
        return None
    return body.get("tools")


def _refused(state: State, call: Call) -> Answer | None:
    config, key = state.config, call.conversation_id
    found = state.store.conversation(key) if key else None
    if key and found is None:
        return _no_conversation(state)
    shape = config.ai_error_shape
    disabled = found is not None and found.metadata.get("ai_disabled") == "true"
    if disabled and config.ai_disabled_blocks_responses:
        return refusal(400, "AI is disabled for this conversation.", shape=shape)
    thread = state.store.thread(key) if key else ()
    if tokens((*thread, *call.said)) > config.context_tokens:
        status = config.context_full_status
        return refusal(status, "The context length of the model is exceeded.", shape=shape)
    if key and config.strict_tool_calls:
        answered = {each.tool_call_id for each in call.said if each.tool_call_id}
        brought = {one.id for each in call.said for one in each.tool_calls}
        unanswered = unanswered_calls(thread)
        # A call without an id can be answered under any.
        if "" not in unanswered and answered != unanswered | brought:
            detail = "Tool outputs do not belong to the open tool calls of the conversation."
            return refusal(400, detail, shape=shape)
    return None


def _no_conversation(state: State) -> Answer:
    status = state.config.unknown_conversation_status
    if status == 422:  # noqa: PLR2004 - the status that FastAPI gives to a bad field
        return invalid(("body", "conversation"), "conversation not found")
    return refusal(status, "Conversation Not Found", shape=state.config.ai_error_shape)


def _turnstile(state: State, key: str | None) -> AbstractAsyncContextManager[object] | None:
    if key is None or state.config.concurrent_requests == "interleave":
        return nullcontext()
    turnstile = state.turnstiles.setdefault(key, asyncio.Lock())
    if state.config.concurrent_requests == "conflict" and turnstile.locked():
        return None
    return turnstile
