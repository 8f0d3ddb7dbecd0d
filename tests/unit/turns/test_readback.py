"""Judging a log: the table of the turn protocol's step 5, line by line."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.ids import TurnId
from worker.domain.states import ReplySource
from worker.domain.text.normal_forms import same_text
from worker.domain.timing import Timing
from worker.domain.turns.calls import ToolCall
from worker.domain.turns.plan import Diverge, Later, Reply, UseTools
from worker.domain.turns.reconcile import (
    HUMAN_KEY,
    Expectation,
    Reconciliation,
    Resend,
    TurnText,
    Unanswered,
    reconcile,
)
from worker.domain.turns.records import ThreadMessage

QUIET_S = 180.0


def user(text: str) -> ThreadMessage:
    return ThreadMessage(role="user", text=text)


def reply(text: str) -> ThreadMessage:
    return ThreadMessage(role="assistant", text=text)


def tool_call(call_id: str = "c1") -> ToolCall:
    return ToolCall(call_id=call_id, name="weather", arguments="{}")


def calling(*call_ids: str) -> ThreadMessage:
    calls = tuple(map(tool_call, call_ids or ("c1",)))
    return ThreadMessage(role="assistant", text="", tool_calls=calls)


TOOL = ThreadMessage(role="tool", text="sunny")
THOUGHT = ThreadMessage(role="assistant", text="")
INSTRUCTIONS = ThreadMessage(role="system", text="be kind")
OURS = ThreadMessage(role="assistant", text="I am a person", metadata={HUMAN_KEY: "anna"})


def look(
    *log: ThreadMessage,
    k: int = 0,
    text: str = "hello",
    age_s: float = 5.0,
    unknown_s: float | None = None,
    ended: Sequence[str] = (),
    known: Sequence[str] = (),
    recorded: Sequence[str] | None = None,
    images: bool = False,
) -> Reconciliation:
    """Judge a log; `ended` are the texts of turns 1, 2, ... that may yet arrive.

    `recorded`: the ids of the tool calls we know of; None = the turn is in its first round.
    """
    expected = Expectation(
        user_messages=k,
        text=TurnText(text=text, with_images=images),
        newest_call_s=age_s,
        newest_unknown_s=unknown_s,
        quiet_s=QUIET_S,
        again_s=Timing().look_again_s(age_s),
        ended=tuple(TurnText(id=TurnId(n + 1), text=one) for n, one in enumerate(ended)),
        landed=tuple(TurnText(text=one, with_images=images) for one in known),
        in_thread=recorded is not None,
        recorded=tuple(recorded or ()),
    )
    return reconcile(log, expected)


def adopted(text: str) -> Reply:
    return Reply(text=text, source=ReplySource.ADOPTED)


def look_again(wait_s: float) -> Later:
    return Later(wait_s=wait_s, reason="look again")


@pytest.mark.parametrize("age_s", [0.0, 5.0, 179.9])
def test_fewer_user_messages_than_there_were_is_a_stale_read_and_looked_at_again(
    age_s: float,
) -> None:
    assert look(user("a"), reply("b"), k=2, age_s=age_s).verdict == look_again(
        min(max(age_s, 2.0), 15.0)
    )


def test_fewer_user_messages_than_there_were_after_t_quiet_is_not_our_thread() -> None:
    verdict = look(user("a"), k=2, age_s=QUIET_S).verdict
    assert isinstance(verdict, Diverge)
    assert "missing" in verdict.reason


def test_a_refused_turn_that_is_not_there_may_be_sent_again_at_once() -> None:
    assert look(user("a"), reply("b"), k=1, age_s=0.5).verdict == Resend()


@pytest.mark.parametrize(("unknown_s", "wait_s"), [(0.0, 2.0), (5.0, 5.0), (100.0, 15.0)])
def test_an_unknown_call_that_is_not_there_may_still_come(unknown_s: float, wait_s: float) -> None:
    verdict = look(user("a"), reply("b"), k=1, age_s=unknown_s, unknown_s=unknown_s).verdict
    assert verdict == look_again(wait_s)


def test_an_unknown_call_that_is_not_there_after_t_quiet_never_comes() -> None:
    assert look(k=0, age_s=QUIET_S, unknown_s=QUIET_S).verdict == Resend()


def test_a_refusal_after_an_unknown_call_does_not_shorten_its_wait() -> None:
    assert isinstance(look(k=0, age_s=1.0, unknown_s=100.0).verdict, Later)


def test_the_item_and_its_answer_are_adopted() -> None:
    assert look(user("hello"), reply("good day")).verdict == adopted("good day")


def test_all_that_the_assistant_said_since_the_item_is_adopted() -> None:
    log = (INSTRUCTIONS, user("hello"), THOUGHT, reply("good"), reply("day"))
    assert look(*log).verdict == adopted("good\nday")


def test_what_telnyx_did_to_the_spelling_does_not_matter() -> None:
    assert look(user(" HELLO\u200b\u00a0you\n"), reply("x"), text="hello  you").verdict == adopted(
        "x"
    )


def test_telnyx_may_have_words_of_its_own_for_images() -> None:
    log = (user("hello [image]"), reply("nice"))
    assert look(*log, images=True).verdict == adopted("nice")
    assert isinstance(look(*log).verdict, Diverge)
    assert look(*log, k=1, known=["hello"], images=True).verdict == Resend()
    assert isinstance(look(user("[image]"), reply("nice"), images=True).verdict, Diverge)


@pytest.mark.parametrize(
    "rest", [(), (calling(), TOOL), (calling(), TOOL, THOUGHT), (TOOL,), (THOUGHT,), (reply("  "),)]
)
def test_an_item_without_a_whole_answer_is_looked_at_until_t_quiet_and_then_given_up(
    rest: tuple[ThreadMessage, ...],
) -> None:
    early = look(user("hello"), *rest, age_s=8.0, unknown_s=8.0).verdict
    assert early == look_again(8.0)
    assert look(user("hello"), *rest, age_s=QUIET_S, unknown_s=QUIET_S).verdict == Unanswered()


def test_the_answer_after_a_tool_is_adopted() -> None:
    log = (user("hello"), calling(), TOOL, reply("it is sunny"))
    assert look(*log).verdict == adopted("it is sunny")


@pytest.mark.parametrize("rest", [(), (THOUGHT,)])
def test_calls_of_tools_that_we_know_nothing_of_are_adopted(
    rest: tuple[ThreadMessage, ...],
) -> None:
    log = (user("hello"), reply("let me see"), calling("c1", "c2"), *rest)
    assert look(*log, unknown_s=1.0).verdict == UseTools(calls=(tool_call("c1"), tool_call("c2")))


def test_the_calls_of_the_next_round_are_adopted_though_they_have_the_ids_of_the_last() -> None:
    log = (user("hello"), calling("c1"), TOOL, calling("c1", "c2"))
    assert look(*log, recorded=["c1"], unknown_s=1.0).verdict == UseTools(
        calls=(tool_call("c1"), tool_call("c2"))
    )


def test_outputs_that_are_not_there_are_sent_again_once_they_can_no_longer_come() -> None:
    log = (user("hello"), calling("c1"))
    early = look(*log, recorded=["c1"], age_s=8.0, unknown_s=8.0).verdict
    assert early == look_again(8.0)
    assert look(*log, recorded=["c1"], age_s=QUIET_S, unknown_s=QUIET_S).verdict == Resend()
    assert look(*log, recorded=["c1"], age_s=1.0).verdict == Resend(), "it was refused"


def test_outputs_that_are_there_are_never_sent_again() -> None:
    log = (user("hello"), calling("c1"), TOOL)
    early = look(*log, recorded=["c1"], age_s=8.0, unknown_s=8.0).verdict
    assert early == look_again(8.0)
    assert look(*log, recorded=["c1"], age_s=QUIET_S, unknown_s=QUIET_S).verdict == Unanswered()


@pytest.mark.parametrize("log", [(), (user("hello"),), (user("hello"), calling("c1"), TOOL)])
def test_a_thread_that_lacks_what_we_saw_in_it_is_stale_and_then_not_ours(
    log: tuple[ThreadMessage, ...],
) -> None:
    early = look(*log, recorded=["c1", "c2"], age_s=8.0).verdict
    assert isinstance(early, Later)
    assert isinstance(look(*log, recorded=["c1", "c2"], age_s=QUIET_S).verdict, Diverge)


def test_what_one_of_our_people_wrote_is_neither_an_answer_nor_the_end_of_one() -> None:
    assert isinstance(look(user("hello"), OURS).verdict, Later)
    assert look(user("hello"), reply("x"), OURS).verdict == adopted("x")
    assert look(OURS, user("hello"), OURS, reply("x")).verdict == adopted("x")


def test_the_same_word_twice_is_told_apart_by_its_place() -> None:
    answered_once = (user("ok"), reply("first"))
    twice = (*answered_once, user("ok"), reply("second"))
    assert look(*answered_once, k=1, text="ok").verdict == Resend()
    assert look(*twice, k=1, text="ok").verdict == adopted("second")
    assert isinstance(look(*twice, k=0, text="ok").verdict, Diverge)


def test_a_message_of_somebody_else_is_never_taken_for_ours() -> None:
    for log in (
        (user("who is this?"), reply("x")),
        (user("hello"), reply("x"), user("who is this?")),
        (user("who is this?"), user("hello"), reply("x")),
    ):
        assert isinstance(look(*log, age_s=QUIET_S).verdict, Diverge)


def test_an_item_that_telnyx_split_is_not_ours_any_more() -> None:
    assert isinstance(look(user("hel"), user("lo"), reply("x")).verdict, Diverge)


def test_an_item_that_telnyx_merged_into_the_one_before_is_noticed() -> None:
    merged = (user("before hello"), reply("x"))
    verdict = look(*merged, k=1, age_s=QUIET_S, unknown_s=QUIET_S, known=["before"]).verdict
    assert isinstance(verdict, Diverge)
    intact = look(user("before"), reply("x"), k=1, known=["before"]).verdict
    assert intact == Resend()


def test_a_turn_given_up_that_arrived_after_all_is_marked_and_left_out() -> None:
    late = (user("old"), reply("late"))
    assert look(*late, user("hello"), reply("x"), ended=["old"]) == Reconciliation(
        verdict=adopted("x"), landed=(TurnId(1),)
    )
    assert look(*late, ended=["old"]) == Reconciliation(verdict=Resend(), landed=(TurnId(1),))


def test_a_late_arrival_after_our_item_does_not_hide_its_answer() -> None:
    log = (user("hello"), reply("x"), user("old"), reply("late"))
    assert look(*log, ended=["old"]) == Reconciliation(verdict=adopted("x"), landed=(TurnId(1),))


def test_late_arrivals_with_one_text_are_marked_in_order_and_no_more_than_there_were() -> None:
    ok = (user("ok"), reply("x"))
    found = look(*ok, *ok, text="hello", ended=["ok", "ok", "ok"])
    assert found.landed == (TurnId(1), TurnId(2))
    assert isinstance(look(*ok, *ok, text="hello", ended=["ok"]).verdict, Diverge)


words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(
    lambda text: same_text(text, text) and not same_text(text, "")
)
turns = st.lists(words, max_size=5)


@given(turns, words)
def test_an_answered_item_at_its_place_is_always_adopted(before: list[str], text: str) -> None:
    log = [message for one in before for message in (user(one), reply(f"to {one}"))]
    found = look(*log, user(text), reply("this"), k=len(before), text=text)
    assert found == Reconciliation(verdict=adopted("this"))


@given(turns, words, st.floats(0, 1000), st.floats(0, 1000))
def test_it_is_never_sent_again_before_t_quiet_nor_where_it_is_there(
    before: list[str], text: str, age_s: float, more_s: float
) -> None:
    log = [message for one in before for message in (user(one), reply("x"))]
    absent = look(*log, k=len(before), text=text, age_s=age_s, unknown_s=age_s + more_s).verdict
    assert (absent == Resend()) == (age_s + more_s >= QUIET_S)
    present = look(*log, user(text), k=len(before), text=text, age_s=age_s).verdict
    assert present != Resend()


@given(turns, words, st.lists(words, max_size=3), st.data())
def test_any_order_of_late_arrivals_is_explained(
    before: list[str], text: str, late: list[str], data: st.DataObject
) -> None:
    pairs = [(user(one), reply("late")) for one in late]
    place = data.draw(st.integers(0, len(pairs)))
    pairs.insert(place, (user(text), reply("this")))
    log = [message for one in before for message in (user(one), reply("x"))]
    log += [message for pair in pairs for message in pair]
    found = look(*log, k=len(before), text=text, ended=late)
    if all(not same_text(one, text) for one in late):
        assert found.verdict == adopted("this")
        assert sorted(found.landed) == [TurnId(n + 1) for n in range(len(late))]
    else:  # which of the equal ones is ours nobody can know, but none is sent again
        assert found.verdict != Resend()
