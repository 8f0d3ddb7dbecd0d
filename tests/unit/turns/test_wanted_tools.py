"""The tool calls of one answer: bounded, by position, none left out."""

from hypothesis import given
from hypothesis import strategies as st

from worker.domain.turns.calls import ToolCall
from worker.domain.turns.wanted_tools import (
    MAX_ARGUMENTS_BYTES,
    MAX_CALL_ID_BYTES,
    MAX_CALLS,
    wanted_tools,
)

ids = st.sampled_from(["", "a", "b", "worker_0", "worker_1", "x" * 20_000, "\u00e4" * 200])
calls = st.builds(
    ToolCall,
    call_id=ids,
    name=st.sampled_from(["", "look", "n" * 5000]),
    arguments=st.sampled_from(["", "{}", "[" * (MAX_ARGUMENTS_BYTES + 1)]),
)


def call(call_id: str, arguments: str = "{}") -> ToolCall:
    return ToolCall(call_id=call_id, name="look", arguments=arguments)


def test_usual_calls_keep_their_ids() -> None:
    found = list(wanted_tools([call("a"), call("b")]))
    assert [(one.call_id, one.given_ids, one.output) for one in found] == [
        ("a", (), None),
        ("b", (), None),
    ]


@given(st.lists(calls, max_size=3 * MAX_CALLS))
def test_every_call_has_one_record_and_its_own_id_in_the_thread(asked: list[ToolCall]) -> None:
    found = list(wanted_tools(asked))
    keys = [one.call_id for one in found]
    assert len(set(keys)) == len(keys) <= MAX_CALLS + 1
    assert all(len(key.encode()) <= MAX_CALL_ID_BYTES for key in keys)
    assert all(len(one.arguments.encode()) <= MAX_ARGUMENTS_BYTES for one in found)
    sent = [given for one in found for given in one.given_ids or (one.call_id,)]
    assert len(sent) == len(asked)
    assert all(one.call_id in {"", given} for one, given in zip(asked, sent, strict=True))
    assert [one.call_id for one in found] == [one.call_id for one in wanted_tools(asked)]


def test_what_is_too_much_is_not_run_and_the_model_is_told() -> None:
    first, second = wanted_tools([call("a", "x" * (MAX_ARGUMENTS_BYTES + 1)), call("b")])
    assert (first.arguments, second.output) == ("", None)
    assert first.output is not None
    *some, rest = wanted_tools([call(str(number)) for number in range(5000)])
    assert len(some) == MAX_CALLS
    assert len(rest.given_ids) == 5000 - MAX_CALLS
    assert str(MAX_CALLS) in (rest.output or "")
