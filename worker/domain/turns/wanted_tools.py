"""The tool calls of one answer, as they are recorded: bounded, in order, each with an outcome.

the first MAX_CALLS             run, whatever ids they have
arguments beyond the limit      recorded as failed; the output says so
all further ones                one record with their ids; the model is told so for each
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from worker.domain.turns.calls import ToolCall

MAX_CALLS: Final = 64
MAX_CALL_ID_BYTES: Final = 256
"""Longer ids do not fit into the index that keeps each call from being recorded twice."""
MAX_NAME_CHARS: Final = 128
MAX_ARGUMENTS_BYTES: Final = 64 * 1024
OWN_ID: Final = "worker_"
"""Our ids of calls that have none of their own begin with this."""

TOO_MANY: Final = f"error: this was not run: an answer may ask for at most {MAX_CALLS} tools"
TOO_LARGE: Final = f"error: this was not run: arguments may have {MAX_ARGUMENTS_BYTES} bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedTool:
    """One record: a call, or all those beyond the limit."""

    call_id: str
    """Unique within the answer: the model's id if it is one, else ours."""
    given_ids: tuple[str, ...] = ()
    """The ids for the thread, if they differ from `call_id`."""
    name: str
    arguments: str
    output: str | None = None
    """Not None = it is not run, and the model gets this."""


def wanted_tools(calls: Sequence[ToolCall]) -> Iterator[WantedTool]:
    """Yield the records of one answer's calls, by position."""
    seen: set[str] = set()
    for place, call in enumerate(calls[:MAX_CALLS]):
        unfit = call.call_id.startswith(OWN_ID) or len(call.call_id.encode()) > MAX_CALL_ID_BYTES
        own_id = OWN_ID + str(place)
        is_key = bool(call.call_id) and not unfit and call.call_id not in seen
        seen.add(call.call_id)
        large = len(call.arguments.encode()) > MAX_ARGUMENTS_BYTES
        yield WantedTool(
            call_id=call.call_id if is_key else own_id,
            given_ids=() if is_key else (call.call_id or own_id,),
            name=call.name[:MAX_NAME_CHARS],
            arguments="" if large else call.arguments,
            output=TOO_LARGE if large else None,
        )
    if further := calls[MAX_CALLS:]:
        yield WantedTool(
            call_id=OWN_ID + str(MAX_CALLS),
            given_ids=tuple(
                call.call_id or OWN_ID + str(place)
                for place, call in enumerate(further, start=MAX_CALLS)
            ),
            name=further[0].name[:MAX_NAME_CHARS],
            arguments="",
            output=TOO_MANY,
        )
