"""The model: its answer is a function of the history, and shows which history that was."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from worker.sandbox.simulator.behaviour.plans import Output
from worker.sandbox.simulator.record.values import Draft, Json, ToolCall, prefix_hash

_CALL = re.compile(r"tool:([A-Za-z0-9_-]+)(?:[ \t]+(\S.*))?")
_SHORT = 80
_THOUGHT = "Somebody wrote; I should answer kindly."
_WRITTEN = {
    Output.THINK: f"<think>\n{_THOUGHT}\n</think>\n\n{{}}",
    Output.THINK_UNCLOSED: f"<think>\n{_THOUGHT} {{}}",
    Output.THINK_STRAY: f"{_THOUGHT}\n</think>\n\n{{}}",
    Output.TOOL_MARKUP: '<tool_call>\n{"name": "look", "arguments": {"at": 1}}\n</tool_call>',
    Output.INVISIBLE: "\ufeff\u200b\u00a0\u2060",
}
"""What a model writes around its answer, `{}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The answer to input that contains `text`: a reply, or calls of tools."""

    text: str
    reply: str | None = None
    calls: tuple[tuple[str, str], ...] = ()
    """Pairs of a name and its arguments as JSON text."""
    items: tuple[Json, ...] = ()
    """Items `function_call` that go out as they are, valid or not."""
    count: int | None = 1
    """How many times; None = always."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An output of the model: the items of the answer and the messages of the thread."""

    items: tuple[Json, ...]
    drafts: tuple[Draft, ...]
    status: str = "completed"
    error: Json | None = None
    incomplete: Json | None = None
    usage: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the model gets to see of a request."""

    history: tuple[Draft, ...]
    """The thread with the request's input at its end."""
    tools: frozenset[str] = frozenset()
    """Names of the functions that it may call."""
    output: Output = Output.NORMAL
    script: Script | None = None
    reasoning: bool = True
    show_prefix: bool = True


def say(task: Task, new_id: Callable[[str], str]) -> Said:
    """Answer. `new_id` makes an identifier out of its prefix."""
    thought = (_reasoning(new_id),) if task.reasoning else ()
    thoughts = tuple(Draft(role="assistant", text=None, origin="reasoning") for _ in thought)
    calls = _calls(task, new_id) if task.output is Output.NORMAL else ()
    usage = _usage(task.history, "".join(call.arguments for call in calls))
    if calls:
        items = tuple(_call_item(call, new_id) for call in calls)
        if task.script is not None and task.script.items:
            items = task.script.items
        draft = Draft(role="assistant", text=None, origin="output", tool_calls=calls)
        return Said(items=(*thought, *items), drafts=(*thoughts, draft), usage=usage)
    if task.output is Output.NO_MESSAGE:
        return Said(items=(_reasoning(new_id),), drafts=thoughts, usage=usage)
    if task.output is Output.FAILED:
        error = {"code": "server_error", "message": "The model could not finish."}
        return Said(items=(), drafts=(), status="failed", error=error, usage=usage)
    text = _WRITTEN.get(task.output, "{}").replace("{}", _text(task))
    usage = _usage(task.history, text)
    draft = Draft(role="assistant", text=text, origin="output")
    kept = (*thoughts, draft)
    if task.output is Output.REFUSAL:
        declined = _message({"type": "refusal", "refusal": text}, new_id)
        return Said(items=(*thought, declined), drafts=kept, usage=usage)
    part: Json = {"type": "output_text", "text": text, "annotations": []}
    if task.output is Output.INCOMPLETE:
        return Said(
            items=(*thought, {**_message(part, new_id), "status": "incomplete"}),
            drafts=kept,
            status="incomplete",
            incomplete={"reason": "max_output_tokens"},
            usage=usage,
        )
    return Said(items=(*thought, _message(part, new_id)), drafts=kept, usage=usage)


def _text(task: Task) -> str:
    newest = task.history[-1] if task.history else None
    heard = _shortened(newest.text or "" if newest else "")
    mark = f" [prefix:{prefix_hash(task.history)}]" if task.show_prefix else ""
    match task.output:
        case Output.REFUSAL:
            return f"I'm sorry, I cannot help with that.{mark}"
        case Output.INCOMPLETE:
            return f'You wrote "{heard}" and I was about to{mark}'
        case _:
            pass
    if task.script is not None and task.script.reply is not None:
        return task.script.reply + mark
    if newest is not None and newest.role == "tool":
        return f"I looked it up for you: {heard}{mark}"
    if not heard:
        return f"Thank you, I have got what you sent.{mark}"
    count = sum(said.role == "user" for said in task.history)
    place = "your first message" if count == 1 else f"message {count} of our conversation"
    return f'Thanks for writing! You said "{heard}", that is {place}.{mark}'


def _shortened(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHORT else flat[: _SHORT - 3] + "..."


def _calls(task: Task, new_id: Callable[[str], str]) -> tuple[ToolCall, ...]:
    if task.script is not None and task.script.items:
        return tuple(
            ToolCall(
                id=str(item.get("call_id") or ""),
                name=str(item.get("name") or ""),
                arguments=str(item.get("arguments")),
            )
            for item in task.script.items
        )
    if task.script is not None:
        wanted: Sequence[tuple[str, str]] = task.script.calls
    else:
        text = task.history[-1].text or "" if task.history else ""
        wanted = [(found[1], found[2] or "{}") for found in _CALL.finditer(text)]
        wanted = [each for each in wanted if each[0] in task.tools]
    return tuple(
        ToolCall(id=new_id("call"), name=name, arguments=arguments) for name, arguments in wanted
    )


def _reasoning(new_id: Callable[[str], str]) -> Json:
    thought = [{"type": "reasoning_text", "text": _THOUGHT}]
    return {"type": "reasoning", "id": new_id("rs"), "summary": [], "content": thought}


def _call_item(call: ToolCall, new_id: Callable[[str], str]) -> Json:
    return {
        "type": "function_call",
        "id": new_id("fc"),
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": "completed",
    }


def _message(part: Json, new_id: Callable[[str], str]) -> Json:
    return {
        "type": "message",
        "id": new_id("msg"),
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }


def tokens(drafts: Sequence[Draft]) -> int:
    """Count the tokens of a history: four characters each, and three for every message."""
    return sum(len(said.text or "") // 4 + 3 for said in drafts)


def _usage(history: Sequence[Draft], text: str) -> Json:
    read, written = tokens(history), len(text) // 4 + 1
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }


def response(said: Said, *, response_id: str, model: str, tools: object) -> Json:
    """Return the `response` object, as the OpenAI types want it."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": said.status,
        "error": said.error,
        "incomplete_details": said.incomplete,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": list(said.items),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": tools if isinstance(tools, list) else [],
        "usage": said.usage,
    }
