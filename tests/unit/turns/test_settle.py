"""What follows from one call, and when a turn is given up."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.errors import OperatorError, OutcomeUnknownError, RetryableError
from worker.domain.ids import CallId, TurnId
from worker.domain.people.hand_over import TOOL_NAME, HandOverReason
from worker.domain.people.policies import HandOver
from worker.domain.reasons import DeadLetterReason
from worker.domain.routing import Agent
from worker.domain.states import CallState, ReplySource
from worker.domain.timing import Timing, backoff_s
from worker.domain.turns.calls import CallOutcome, Done, Fault, NotSent, Refused, ToolCall, Unknown
from worker.domain.turns.plan import GateClosing, GiveUp, HandedOver, Later, Plan, Reply
from worker.domain.turns.records import CallRecord, OpenTurn
from worker.domain.turns.retries import give_up_reason, plan_after, plan_without_conversation

TIMING = Timing()
AGENT = Agent(name="kind", model="m")
PATIENT = replace(AGENT, fallback_text="We will call you back.")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def after(outcome: CallOutcome, agent: Agent = AGENT, attempt: int = 0) -> Plan:
    return plan_after(outcome, agent=agent, attempt=attempt, timing=TIMING)


def test_a_completed_text_is_the_reply() -> None:
    done = Done(status="completed", text="good day")
    assert after(done) == Reply(text="good day", source=ReplySource.CALL)


@pytest.mark.parametrize(
    "done",
    [
        Done(status="completed", text=""),
        Done(status="completed", text=" \n"),
        Done(status="failed", text="half"),
        Done(status="incomplete", text="half"),
    ],
)
def test_an_answer_without_usable_text_ends_the_turn_as_landed(done: Done) -> None:
    expected = GiveUp(reason=DeadLetterReason.NO_ANSWER, fallback_text=None, landed=True)
    assert after(done) == expected
    assert after(done, PATIENT) == replace(expected, fallback_text=PATIENT.fallback_text)


def test_a_model_may_hand_over_after_the_last_round_of_tools() -> None:
    calls = (ToolCall(call_id="1", name=TOOL_NAME, arguments="no json"),)
    agent = replace(AGENT, hand_over=HandOver(), max_tool_rounds=1)
    plan = plan_after(
        Done(status="completed", text="", tool_calls=calls),
        agent=agent,
        attempt=0,
        round_=1,
        timing=TIMING,
    )
    assert plan == HandedOver(reason=HandOverReason.MODEL, not_run=calls)


def test_partial_text_is_a_reply_where_the_agent_allows_it() -> None:
    done = Done(status="incomplete", text="half")
    allowed = replace(AGENT, partial_text=True)
    assert after(done, allowed) == Reply(text="half", source=ReplySource.CALL, incomplete=True)


def test_what_was_not_sent_is_tried_again_with_growing_waits() -> None:
    waits = [after(NotSent(reason="dns"), attempt=attempt) for attempt in range(4)]
    assert [plan.wait_s for plan in waits if isinstance(plan, Later)] == [1.0, 2.0, 4.0, 8.0]


def test_an_unknown_outcome_is_looked_at_soon_and_sends_nothing() -> None:
    assert after(Unknown(reason="reset")) == Later(wait_s=TIMING.look_first_s, reason="reset")


@pytest.mark.parametrize("attempt", [0, 3, 8])
def test_telnyx_own_5xx_waits_until_what_it_stored_shows(attempt: int) -> None:
    plan = after(Refused(status=503, fault=Fault.SERVER), attempt=attempt)
    assert isinstance(plan, Later)
    assert plan.wait_s == max(TIMING.settle_s, backoff_s(attempt))
    asked = after(Refused(status=503, fault=Fault.SERVER, retry_after_s=120.0))
    assert isinstance(asked, Later)
    assert asked.wait_s == 120.0


def test_a_rate_limit_closes_the_gate_of_the_model_for_everybody() -> None:
    plan = after(Refused(status=429, fault=Fault.RATE, retry_after_s=7.0))
    assert isinstance(plan, Later)
    assert plan.gate == GateClosing(name="model:m", reason="rate limit", wait_s=7.0)


def test_a_bad_key_closes_the_account_and_kills_no_message() -> None:
    plan = after(Refused(status=401, fault=Fault.ACCOUNT))
    assert isinstance(plan, Later)
    assert plan.gate == GateClosing(name="account", reason="status 401")


def test_a_refused_request_is_decided_by_its_thread() -> None:
    assert after(Refused(status=400, fault=Fault.REQUEST)) == Later(wait_s=0.0, reason="status 400")


refusals = st.builds(
    Refused,
    status=st.integers(300, 599),
    fault=st.sampled_from(Fault),
    retry_after_s=st.none() | st.floats(0, 3600),
)
unsure = st.one_of(
    refusals, st.builds(Unknown, reason=st.just("x")), st.builds(NotSent, reason=st.just("x"))
)


@given(unsure, st.integers(0, 40))
def test_no_failure_of_a_call_alone_ends_a_turn_or_replies(
    outcome: CallOutcome, attempt: int
) -> None:
    plan = after(outcome, PATIENT, attempt)
    assert isinstance(plan, Later)
    assert 0 <= plan.wait_s <= 3600


@given(st.integers(0, 100))
def test_the_backoff_grows_and_is_bounded(attempt: int) -> None:
    assert 1.0 <= backoff_s(attempt) <= backoff_s(attempt + 1) <= 60.0


def test_conversations_that_fail_make_the_turn_wait_longer_each_time() -> None:
    error = RetryableError("find: status 503")
    waits = [plan_without_conversation(error, open_s=open_s) for open_s in (0, 5, 1000)]
    assert waits == [Later(wait_s=wait_s, reason=str(error)) for wait_s in (1.0, 5.0, 60.0)]


def test_conversations_that_ask_for_patience_get_it() -> None:
    plan = plan_without_conversation(RetryableError("x", retry_after_s=90), open_s=0)
    assert plan == Later(wait_s=90, reason="x")
    unknown = plan_without_conversation(OutcomeUnknownError("create"), open_s=2)
    assert unknown == Later(wait_s=2, reason="create")


def test_conversations_that_refuse_the_key_close_the_account() -> None:
    plan = plan_without_conversation(OperatorError("status 401", retry_after_s=9), open_s=5)
    assert isinstance(plan, Later)
    assert plan.gate == GateClosing(name="account", reason="key")


def call(state: CallState, ago_s: float, fault: Fault | None = None) -> CallRecord:
    at = NOW - timedelta(seconds=ago_s)
    return CallRecord(id=CallId(1), round=0, attempt=0, state=state, intent_at=at, fault=fault)


def given_up(*calls: CallRecord) -> bool:
    turn = OpenTurn(
        id=TurnId(1),
        agent="kind",
        input_text="hello",
        parts=(),
        opened_at=NOW - timedelta(days=1),
        messages=1,
        calls=calls,
    )
    return give_up_reason(turn, now=NOW, timing=TIMING) is not None


def test_three_calls_of_unknown_outcome_are_enough() -> None:
    unknown = call(CallState.UNKNOWN, 10)
    assert not given_up(unknown, unknown)
    assert given_up(unknown, unknown, unknown)
    assert given_up(unknown, unknown, call(CallState.INTENDED, 1))


def test_fifteen_minutes_after_the_first_of_several_doubtful_calls_are_enough() -> None:
    refused = call(CallState.REFUSED, 1, Fault.SERVER)
    assert not given_up(call(CallState.UNKNOWN, 899), refused, refused)
    assert given_up(call(CallState.UNKNOWN, 900), refused, refused)
    assert given_up(call(CallState.REFUSED, 900, Fault.SERVER), refused, refused)


def test_time_alone_ends_no_turn() -> None:
    refused = call(CallState.REFUSED, 100_000, Fault.SERVER)
    in_line = call(CallState.REFUSED, 900, Fault.RATE)
    assert not given_up(refused, refused, in_line)
    assert not given_up(call(CallState.UNKNOWN, 100_000), refused)


@pytest.mark.parametrize("fault", [Fault.RATE, Fault.ACCOUNT])
def test_rate_limits_and_bad_keys_never_end_a_turn(fault: Fault) -> None:
    assert not given_up(*[call(CallState.REFUSED, 100_000, fault)] * 50)
    assert not given_up(*[call(CallState.NOT_SENT, 100_000)] * 50)
