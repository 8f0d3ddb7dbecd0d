"""The items of one call to the Responses API: only those that the thread lacks.

round 0     outputs that earlier turns still owe the thread, then the turn's one user item
round n     the outputs of the tools of round n - 1
round n without a thread that has the rest (stateless, or the conversation was replaced)
            the user item, and every tool call with its output
"""

from collections.abc import Iterator

from worker.domain.messages import user_item
from worker.domain.turns.records import OpenConversation, OpenTurn, ToolRecord

Item = dict[str, object]

NO_OUTPUT = "the tool gave no output"


def input_items(turn: OpenTurn, conversation: OpenConversation | None) -> tuple[Item, ...]:
    """Return the items of the turn's next call; `conversation` None = stateless."""
    if turn.round > 0 and turn.is_in_thread:
        return tuple(_output(one) for one in turn.tool_calls if one.round == turn.round - 1)
    owed = conversation.owed if conversation is not None else ()
    return (*map(_output, owed), user_item(turn.input_text, turn.parts), *_rounds(turn))


def _rounds(turn: OpenTurn) -> Iterator[Item]:
    for number in range(turn.round):
        records = [one for one in turn.tool_calls if one.round == number]
        yield from map(_call, records)
        yield from map(_output, records)


def _call(record: ToolRecord) -> Item:
    return {
        "type": "function_call",
        "call_id": record.call_id,
        "name": record.name,
        "arguments": record.arguments,
    }


def _output(record: ToolRecord) -> Item:
    return {
        "type": "function_call_output",
        "call_id": record.call_id,
        "output": NO_OUTPUT if record.output is None else record.output,
    }
