"""From the `input` of a request to messages of a thread."""

import json
from collections.abc import Sequence
from dataclasses import replace

from worker.sandbox.simulator.behaviour.config import SimulatorConfig
from worker.sandbox.simulator.behaviour.plans import Items
from worker.sandbox.simulator.record.values import Draft, Json, Origin, ToolCall

_TEXTS = {"input_text", "output_text", "text"}
_IMAGES = {"input_image"}
_SILENT = {"input_file", "input_audio", "refusal", "summary_text", "reasoning_text"}


class BadInputError(ValueError):
    """The input is not what the Responses format allows. `loc` is the path to it, as in FastAPI."""

    def __init__(self, loc: Sequence[str | int], message: str) -> None:
        super().__init__(message)
        self.loc = ("body", "input", *loc)


def drafts(said: object, config: SimulatorConfig) -> tuple[Draft, ...]:
    """Turn `input` into messages, one for each item; BadInputError if it cannot be."""
    if said is None:
        return ()
    if isinstance(said, str):
        return (Draft(role="user", text=_stored(said, config)),)
    if not isinstance(said, list):
        raise BadInputError((), "str or list expected")
    found: list[Draft] = []
    for place, item in enumerate(said):
        if not isinstance(item, dict):
            raise BadInputError((place,), "value is not a valid dict")
        found.extend(_draft(item, place, config))
    return tuple(found)


def _draft(item: Json, place: int, config: SimulatorConfig) -> Sequence[Draft]:
    match item.get("type", "message"):
        case "message":
            return (_message(item, place, config),)
        case "function_call_output":
            call_id, output = item.get("call_id"), item.get("output")
            if not isinstance(call_id, str):
                raise BadInputError((place, "call_id"), "str type expected")
            if not isinstance(output, str):
                output = json.dumps(output)
            return (Draft(role="tool", text=output, tool_call_id=call_id),)
        case "function_call":
            names = ("call_id", "name", "arguments")
            parts = {name: item.get(name) for name in names}
            if not all(isinstance(part, str) for part in parts.values()):
                raise BadInputError((place,), "call_id, name and arguments expected")
            call = ToolCall(
                id=str(parts["call_id"]),
                name=str(parts["name"]),
                arguments=str(parts["arguments"]),
            )
            return (Draft(role="assistant", text=None, tool_calls=(call,)),)
        case "reasoning" | "item_reference":
            return ()
        case other:
            raise BadInputError((place, "type"), f"unknown item type: {other}")


def _message(item: Json, place: int, config: SimulatorConfig) -> Draft:
    role, content = item.get("role"), item.get("content")
    if role not in {"user", "assistant", "system", "developer"}:
        raise BadInputError((place, "role"), "unexpected value")
    if isinstance(content, str):
        text = content
    elif isinstance(content, list):
        found = [_part(part, (place, "content", n), config) for n, part in enumerate(content)]
        text = config.part_separator.join(each for each in found if each)
    else:
        raise BadInputError((place, "content"), "str or list expected")
    origin: Origin = "instructions" if role in {"system", "developer"} else "input"
    return Draft(role=role, text=_stored(text, config), origin=origin)


def _part(part: object, loc: Sequence[str | int], config: SimulatorConfig) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or kind not in _TEXTS | _IMAGES | _SILENT:
        raise BadInputError(loc, f"unknown part: {kind}")
    if kind in _IMAGES:
        return config.image_listed_as
    if kind in _SILENT:
        return ""
    if not isinstance(part.get("text"), str):
        raise BadInputError((*loc, "text"), "str type expected")
    return str(part["text"])


def _stored(text: str, config: SimulatorConfig) -> str:
    return text if config.text_kept else " ".join(text.split())


def rearranged(found: Sequence[Draft], items: Items) -> tuple[Draft, ...]:
    """Split or merge the user's messages, as the fault wants it; other messages stay."""
    match items:
        case Items.AS_SENT:
            return tuple(found)
        case Items.SPLIT:
            return tuple(half for draft in found for half in _halves(draft))
        case Items.MERGED:
            users = [draft for draft in found if draft.role == "user"]
            if not users:
                return tuple(found)
            merged = replace(users[0], text=" ".join(draft.text or "" for draft in users))
            return (*(draft for draft in found if draft.role != "user"), merged)


def _halves(draft: Draft) -> tuple[Draft, ...]:
    if draft.role != "user" or not draft.text:
        return (draft,)
    middle = (len(draft.text) + 1) // 2
    halves = (draft.text[:middle], draft.text[middle:])
    return tuple(replace(draft, text=half) for half in halves)


def unanswered_calls(thread: Sequence[Draft]) -> frozenset[str]:
    """Return the ids of the calls in a thread to which no output was stored."""
    called = {call.id for said in thread for call in said.tool_calls}
    return frozenset(called - {said.tool_call_id for said in thread if said.tool_call_id})
