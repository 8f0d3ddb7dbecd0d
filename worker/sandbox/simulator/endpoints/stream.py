"""A streamed answer: the events of OpenAI's Responses API, and the ways in which a stream fails.

created ▸ in_progress ▸ (item added ▸ part added ▸ delta* ▸ done ▸ done ▸ done)* ▸ completed
"""

import json
from collections.abc import Iterator

from worker.sandbox.simulator.behaviour.plans import Stream
from worker.sandbox.simulator.endpoints.answers import Answer
from worker.sandbox.simulator.record.values import Json

_DELTA = 12
_KEEPALIVES = 20


def streamed(response: Json, *, fault: Stream, done_marker: bool) -> Answer:
    """Return the events of a response, one chunk each; the fault decides how they end."""
    events = list(_events(response))
    chunks = [_encoded(event, number) for number, event in enumerate(events)]
    middle = max(3, len(chunks) // 2)
    torn = False
    match fault:
        case Stream.CUT:
            chunks = [*chunks[:middle], chunks[middle][: len(chunks[middle]) // 2]]
            torn = True
        case Stream.NO_TERMINAL:
            chunks = chunks[:-1]
        case Stream.ERROR:
            error = {"type": "error", "code": "server_error", "message": "It broke.", "param": None}
            chunks = [*chunks[:middle], _encoded(error, middle)]
        case Stream.ERROR_OBJECT:
            failure = {"error": {"message": "It broke.", "type": "server_error", "code": None}}
            chunks = [*chunks[:middle], f"data: {json.dumps(failure)}\n\n".encode()]
        case Stream.FAILED | Stream.INCOMPLETE:
            chunks = [*chunks[:middle], _encoded(_unhappy(response, fault), middle)]
        case Stream.KEEPALIVE:
            chunks = [*chunks[:2], *[b": still thinking\n\n"] * _KEEPALIVES, *chunks[2:]]
        case Stream.NORMAL | Stream.JSON:
            chunks += [b"data: [DONE]\n\n"] if done_marker else []
    return Answer(content_type="text/event-stream", chunks=tuple(chunks), torn=torn)


def _events(response: Json) -> Iterator[Json]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(response["output"]):
        opened = {**item, "status": "in_progress"}
        if item["type"] in {"message", "reasoning"}:
            opened["content"] = []
        if item["type"] == "function_call":
            opened["arguments"] = ""
        yield {"type": "response.output_item.added", "output_index": index, "item": opened}
        yield from _item(item, index)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{response['status']}", "response": response}


def _item(item: Json, index: int) -> Iterator[Json]:
    at = {"item_id": item.get("id"), "output_index": index}
    if item["type"] == "function_call":
        kind = "response.function_call_arguments"
        name, arguments = item.get("name"), item.get("arguments")
        yield {"type": f"{kind}.delta", **at, "delta": arguments}
        yield {"type": f"{kind}.done", **at, "name": name, "arguments": arguments}
        return
    for place, part in enumerate(item["content"]):
        where = {**at, "content_index": place}
        if part["type"] == "reasoning_text":
            kind = "response.reasoning_text"
            yield {"type": f"{kind}.delta", **where, "delta": part["text"]}
            yield {"type": f"{kind}.done", **where, "text": part["text"]}
        else:
            yield from _part(part, where)


def _part(part: Json, where: Json) -> Iterator[Json]:
    kind = "refusal" if part["type"] == "refusal" else "text"
    text: str = part[kind]
    name = "response.refusal" if kind == "refusal" else "response.output_text"
    logprobs: Json = {} if kind == "refusal" else {"logprobs": []}
    yield {"type": "response.content_part.added", **where, "part": {**part, kind: ""}}
    for start in range(0, len(text), _DELTA):
        delta = text[start : start + _DELTA]
        yield {"type": f"{name}.delta", **where, "delta": delta, **logprobs}
    yield {"type": f"{name}.done", **where, kind: text, **logprobs}
    yield {"type": "response.content_part.done", **where, "part": part}


def _unhappy(response: Json, fault: Stream) -> Json:
    if fault is Stream.FAILED:
        error = {"code": "server_error", "message": "The model could not finish."}
        ended = {**response, "status": "failed", "error": error, "output": []}
    else:
        reason = {"reason": "max_output_tokens"}
        ended = {**response, "status": "incomplete", "incomplete_details": reason}
    return {"type": f"response.{ended['status']}", "response": ended}


def _encoded(event: Json, number: int) -> bytes:
    data = json.dumps({**event, "sequence_number": number}, ensure_ascii=False)
    return f"event: {event['type']}\ndata: {data}\n\n".encode()
