"""Where a message stands and what happens next, from values alone."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from worker.cli.inspect.why_view import lines_of
from worker.domain.ids import (
    CallId,
    ChannelUserId,
    ConversationId,
    DeadLetterId,
    DeliveryId,
    MessageRowId,
    TurnId,
)
from worker.domain.people.drafts import HeldFor
from worker.domain.reports.explain_ended import Explanation, MessageStatus
from worker.domain.reports.explain_waiting import explain
from worker.domain.reports.message_history import (
    CallSummary,
    ClosedGate,
    DeadLetterSummary,
    DeliverySummary,
    LoggedEvent,
    MessageHistory,
    MessageSummary,
    ReplySummary,
    ToolSummary,
    TurnSummary,
    UserSummary,
)
from worker.domain.routing import Agent, Routing
from worker.domain.states import (
    CallState,
    DeadLetterKind,
    DeliveryState,
    MessageState,
    ReplySource,
    Resolution,
    ToolCallState,
    TurnKind,
    TurnState,
)
from worker.domain.timing import Timing
from worker.domain.turns.calls import Fault

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ROUTING = Routing(
    agents={
        "default": Agent(name="default", model="m/1"),
        "second": Agent(name="second", model="m/2"),
    },
    default_agent="default",
    calls_per_second=20.0,
)
Change = Callable[[MessageHistory], MessageHistory]


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


WAITING = MessageHistory(
    now=NOW,
    workers=1,
    message=MessageSummary(
        id=MessageRowId(7),
        message_id="m-7",
        channel="web",
        agent="default",
        state=MessageState.PENDING,
        outcome=None,
        accepted_at=at(-3),
        finished_at=None,
        expires_at=None,
        late=False,
        alone=False,
        conflicts=0,
        turn_id=None,
        envelope={},
        before=0,
    ),
    user=UserSummary(
        id=ChannelUserId(4),
        due_at=at(2),
        waiting_due_at=at(2),
        next_agent="default",
        surplus=False,
        held_until=None,
        paused_at=None,
        pause_reason=None,
        diverged_at=None,
        erasing_since=None,
    ),
    turn=None,
)
TURN = TurnSummary(
    id=TurnId(5),
    kind=TurnKind.MODEL,
    state=TurnState.OPEN,
    agent="default",
    agent_version="v",
    messages=1,
    landed=None,
    failure=None,
    opened_at=at(-2),
    finished_at=None,
    conversation_id=ConversationId(1),
    telnyx_conversation_id=None,
)
CALL = CallSummary(
    id=CallId(9),
    round=0,
    attempt=0,
    state=CallState.INTENDED,
    intent_at=at(-2),
    finished_at=None,
    status=None,
    code=None,
    reason=None,
    fault=None,
    request_id=None,
    response_id=None,
    input_tokens=None,
    output_tokens=None,
    instructions_sent=False,
)
DELIVERY = DeliverySummary(
    id=DeliveryId(3),
    state=DeliveryState.PENDING,
    way_out="web",
    attempts=0,
    first_attempt_at=None,
    due_at=at(5),
    lease_until=None,
    provider_id=None,
    provider_status=None,
    created_at=at(-1),
    finished_at=None,
    ahead=0,
)
LETTER = DeadLetterSummary(
    id=DeadLetterId(8),
    kind=DeadLetterKind.MESSAGE,
    reason="refused",
    detail="",
    created_at=at(-1),
    resolution=None,
    resolved_at=None,
)
RATE = ClosedGate(name="model:m/1", reason="rate limit", closed_until=at(10))
ACCOUNT = ClosedGate(name="account", reason="status 401", closed_until=at(60))
TAKEN = replace(
    WAITING,
    message=replace(WAITING.message, state=MessageState.IN_TURN, turn_id=TURN.id),
    turn=TURN,
    calls=(CALL,),
)
HELD = replace(TAKEN, user=replace(TAKEN.user, due_at=at(-2), held_until=at(80)))
REPLIED = replace(
    TAKEN,
    message=replace(TAKEN.message, state=MessageState.ANSWERED, outcome="answered"),
    reply=ReplySummary(source=ReplySource.CALL, text="hi", created_at=at(-1)),
    delivery=DELIVERY,
)


def user(base: MessageHistory, **changes: object) -> MessageHistory:
    return replace(base, user=replace(base.user, **changes))  # type: ignore[arg-type]


def message(base: MessageHistory, **changes: object) -> MessageHistory:
    return replace(base, message=replace(base.message, **changes))  # type: ignore[arg-type]


def called(state: CallState, **changes: object) -> MessageHistory:
    call = replace(CALL, state=state, finished_at=at(-1), **changes)  # type: ignore[arg-type]
    return replace(TAKEN, calls=(call,))


def delivered(state: DeliveryState = DeliveryState.PENDING, **changes: object) -> MessageHistory:
    return replace(REPLIED, delivery=replace(DELIVERY, state=state, **changes))  # type: ignore[arg-type]


def told(history: MessageHistory) -> Explanation:
    return explain(history, ROUTING, Timing())


IN_LINE = replace(user(WAITING, due_at=at(-5)), calls_until=at(0.5))


@pytest.mark.parametrize(
    ("history", "status", "words"),
    [
        (IN_LINE, MessageStatus.RATE, "20 a second (calls_per_second), and others are before it"),
        (replace(IN_LINE, calls_until=at(0)), MessageStatus.WORKER, "next free worker"),
        (user(IN_LINE, held_until=at(9)), MessageStatus.WORKER, "in hand"),
        (replace(WAITING, calls_until=at(0.5)), MessageStatus.DEBOUNCE, "more messages"),
        (
            replace(user(called(CallState.DONE), due_at=at(-5)), calls_until=at(0.5)),
            MessageStatus.RATE,
            "",
        ),
        (WAITING, MessageStatus.DEBOUNCE, "more messages"),
        (user(WAITING, due_at=at(-1)), MessageStatus.WORKER, "next free worker"),
        (user(WAITING, due_at=at(-1), surplus=True), MessageStatus.WORKER, "others go first"),
        (user(WAITING, due_at=at(-1), held_until=at(9)), MessageStatus.WORKER, "in hand"),
        (user(WAITING, due_at=at(3)), MessageStatus.GATE, "open again"),
        (user(WAITING, due_at=None), MessageStatus.STRANDED, "defect"),
        (user(WAITING, next_agent="gone"), MessageStatus.NO_AGENT, "no agent gone"),
        (message(WAITING, agent="gone"), MessageStatus.DEBOUNCE, "more messages"),
        (user(WAITING, paused_at=at(-9)), MessageStatus.PAUSED, "a person has taken over"),
        (
            user(WAITING, paused_at=at(-9), pause_reason="hand_over"),
            MessageStatus.PAUSED,
            "handed over to our staff",
        ),
        (
            user(WAITING, paused_at=at(-9), pause_reason="loop"),
            MessageStatus.PAUSED,
            "like a machine that answers ours",
        ),
        (user(WAITING, diverged_at=at(-9)), MessageStatus.DIVERGED, "not what we know"),
        (
            user(TAKEN, diverged_at=at(-9), erasing_since=at(-9)),
            MessageStatus.ERASING,
            "being erased",
        ),
        (
            user(delivered(DeliveryState.CANCELLED), erasing_since=at(-9)),
            MessageStatus.ERASING,
            "stopped",
        ),
        (
            replace(WAITING, gates=(RATE, ACCOUNT)),
            MessageStatus.GATE,
            "gate account, because Telnyx a",
        ),
        (replace(WAITING, gates=(RATE,)), MessageStatus.GATE, "because Telnyx answered 429"),
        (
            replace(HELD, message=WAITING.message),
            MessageStatus.BEHIND,
            "turn 5 of the same channel user",
        ),
        (HELD, MessageStatus.TELNYX, "Telnyx is being asked"),
        (replace(HELD, calls=()), MessageStatus.WORKER, "in hand"),
        (TAKEN, MessageStatus.LOOK_BACK, "its worker died in call 9"),
        (
            called(CallState.UNKNOWN, reason="timeout"),
            MessageStatus.LOOK_BACK,
            "no clear answer (timeout)",
        ),
        (called(CallState.NOT_SENT, reason="tls"), MessageStatus.RETRY, "did not leave (tls)"),
        (called(CallState.DONE), MessageStatus.RETRY, "was answered, and the turn goes on"),
        (
            called(CallState.REFUSED, status=503, code="10007", fault=Fault.SERVER),
            MessageStatus.RETRY,
            "Telnyx answered 503, code 10007",
        ),
        (replace(TAKEN, calls=()), MessageStatus.CONVERSATION, "could not be found, made"),
        (user(TAKEN, due_at=None), MessageStatus.STRANDED, "defect"),
        (replace(TAKEN, gates=(RATE,)), MessageStatus.GATE, "429"),
        (replace(TAKEN, turn=replace(TURN, agent="gone")), MessageStatus.NO_AGENT, "no agent gone"),
        (delivered(), MessageStatus.DELIVERING, "due to be sent"),
        (
            delivered(attempts=2, provider_status="busy"),
            MessageStatus.DELIVERING,
            "attempt 2 did not",
        ),
        (delivered(ahead=3), MessageStatus.DELIVERING, "3 earlier replies"),
        (delivered(counts_from=at(9)), MessageStatus.DELIVERING, "waits for the hours"),
        (
            delivered(DeliveryState.SENDING, attempts=1, lease_until=at(9)),
            MessageStatus.DELIVERING,
            "attempt 1 is under way",
        ),
        (delivered(DeliveryState.SENT), MessageStatus.ANSWERED, "this channel has no delivery"),
        (delivered(DeliveryState.SENT, attempts=1), MessageStatus.ANSWERED, "was sent"),
        (delivered(DeliveryState.HELD), MessageStatus.HELD, "waits for a person"),
        (delivered(DeliveryState.REJECTED), MessageStatus.REJECTED, "has rejected the reply"),
        (
            delivered(DeliveryState.EXPIRED, held_for=HeldFor.ALL),
            MessageStatus.NOT_DELIVERED,
            "nobody decided",
        ),
        (delivered(DeliveryState.WITHHELD), MessageStatus.WITHHELD, "a person had taken over"),
        (delivered(DeliveryState.SUPERSEDED), MessageStatus.SUPERSEDED, "newer messages"),
        (
            delivered(DeliveryState.UNKNOWN),
            MessageStatus.NOT_DELIVERED,
            "may have the reply or not",
        ),
        (delivered(DeliveryState.EXPIRED), MessageStatus.NOT_DELIVERED, "in time"),
        (delivered(DeliveryState.CANCELLED), MessageStatus.NOT_DELIVERED, "cancelled"),
        (message(TAKEN, state=MessageState.HUMAN), MessageStatus.HUMAN, "a person had taken over"),
        (message(WAITING, state=MessageState.EXPIRED), MessageStatus.EXPIRED, "too old"),
        (
            message(WAITING, state=MessageState.SKIPPED, outcome="opt_out"),
            MessageStatus.SKIPPED,
            "recognised as opt_out",
        ),
        (
            message(delivered(), state=MessageState.SKIPPED, outcome="help"),
            MessageStatus.SKIPPED,
            "recognised as help; a configured text was sent",
        ),
        (
            message(WAITING, state=MessageState.SKIPPED, outcome="opted_out"),
            MessageStatus.OPTED_OUT,
            "has opted out",
        ),
        (delivered(DeliveryState.OPTED_OUT), MessageStatus.OPTED_OUT, "was not sent"),
        (
            message(WAITING, state=MessageState.SKIPPED, outcome="overflow"),
            MessageStatus.SKIPPED,
            "max_pending",
        ),
        (
            message(WAITING, state=MessageState.SKIPPED, outcome="over_budget"),
            MessageStatus.SKIPPED,
            "the budget of its agent",
        ),
        (
            message(TAKEN, state=MessageState.DEAD, outcome="gave_up"),
            MessageStatus.DEAD,
            "gave_up: it was tried for too long",
        ),
    ],
)
def test_where_a_message_stands_is_said_by_name_and_in_words(
    history: MessageHistory, status: MessageStatus, words: str
) -> None:
    said = told(history)
    assert (said.status, words in said.what) == (status, True), said


def test_every_fate_has_a_case_above() -> None:
    (mark,) = test_where_a_message_stands_is_said_by_name_and_in_words.pytestmark  # type: ignore[attr-defined]
    assert {status for _, status, _ in mark.args[1]} | {MessageStatus.TOOLS} == set(MessageStatus)


def test_tools_that_run_are_said() -> None:
    tool = ToolSummary(
        round=0,
        call_id="c",
        name="n",
        state=ToolCallState.STARTED,
        started_at=at(-1),
        finished_at=None,
    )
    done = replace(CALL, state=CallState.DONE)
    assert told(replace(HELD, calls=(done,), tools=(tool,))).status is MessageStatus.TOOLS


def test_a_conversation_that_cannot_be_had_leads_to_the_doctor() -> None:
    assert told(replace(TAKEN, calls=())).commands == ("worker doctor",)
    due = user(replace(TAKEN, calls=()), due_at=at(-1))
    assert told(due).commands == (), "a worker takes it up now"


def test_an_approved_reply_is_not_said_to_be_withheld() -> None:
    paused = user(delivered(), paused_at=at(-9))
    assert "withheld" in told(paused).then
    approved = user(delivered(reviewed_at=at(-1)), paused_at=at(-9))
    assert "withheld" not in told(approved).then


def test_a_reply_without_a_delivery_is_kept_and_not_sent() -> None:
    for attempts, word in ((0, "kept"), (1, "sent")):
        history = delivered(DeliveryState.SENT, attempts=attempts, finished_at=at(0))
        lines = [*lines_of(history, told(history), (), text=False)]
        assert any(line.endswith(f": {word}") for line in lines), lines


def test_a_call_in_flight_is_over_when_its_timeout_is() -> None:
    assert told(HELD).until == CALL.intent_at + timedelta(seconds=75)


def test_in_doubt_it_is_said_before_when_nothing_is_sent_again() -> None:
    quiet_at = CALL.intent_at + timedelta(seconds=Timing().quiet_s(75))
    assert f"not before {quiet_at:%H:%M:%S}Z" in told(TAKEN).then
    stateless = replace(TAKEN, turn=replace(TURN, conversation_id=None))
    assert "conversation" not in told(stateless).then


def test_the_gate_that_holds_longest_is_the_one_that_is_said() -> None:
    assert told(replace(WAITING, gates=(RATE, ACCOUNT))).until == ACCOUNT.closed_until
    others = ClosedGate(name="agent:other", reason="x", closed_until=at(99))
    assert told(replace(WAITING, gates=(others,))).status is MessageStatus.DEBOUNCE


def test_what_will_have_expired_when_its_turn_comes_is_said_to_expire() -> None:
    assert told(message(WAITING, expires_at=at(1))).then == "it ends as expired"
    assert told(message(WAITING, expires_at=at(9))).then != "it ends as expired"
    late = message(user(WAITING, due_at=at(-5)), expires_at=at(-1))
    for history in (late, user(late, paused_at=at(-9)), user(late, next_agent="gone")):
        assert (told(history).status, told(history).then) == (
            MessageStatus.WORKER,
            "it ends as expired",
        )


def test_the_gate_of_whoever_comes_first_holds_back_the_line() -> None:
    firsts = replace(WAITING, gates=(ClosedGate(name="model:m/2", reason="x", closed_until=at(9)),))
    assert told(firsts).status is MessageStatus.DEBOUNCE
    assert told(user(firsts, next_agent="second")).status is MessageStatus.GATE
    paused = told(user(firsts, next_agent="second", paused_at=at(-1)))
    assert (paused.status, "ends as human" in paused.then) == (MessageStatus.GATE, True)


def test_where_no_worker_lives_that_is_what_to_mend() -> None:
    for history in (WAITING, TAKEN):
        said = told(replace(history, workers=0))
        assert "no worker is alive" in said.then
        assert said.commands[0] == "worker status"
    assert "worker" not in told(replace(delivered(DeliveryState.SENT), workers=0)).then


def test_a_dead_letter_is_replayed_unless_somebody_has_dealt_with_it() -> None:
    dead = message(TAKEN, state=MessageState.DEAD, outcome="refused")
    assert told(replace(dead, dead_letters=(LETTER,))).commands == ("worker dead-letters replay 8",)
    dealt = replace(LETTER, resolution=Resolution.DISMISSED, resolved_at=NOW)
    said = told(replace(dead, dead_letters=(dealt,)))
    assert (said.commands, said.then) == ((), "dead letter 8 was dismissed")


def test_a_reply_that_was_refused_is_replayed_by_its_own_dead_letter() -> None:
    letter = replace(LETTER, kind=DeadLetterKind.DELIVERY)
    said = told(replace(delivered(DeliveryState.FAILED), dead_letters=(letter,)))
    assert (said.status, said.commands) == (
        MessageStatus.NOT_DELIVERED,
        ("worker dead-letters replay 8",),
    )


def test_the_reason_of_a_divergence_is_told() -> None:
    event = LoggedEvent(at=NOW, event="diverged", turn_id=TURN.id, facts={"reason": "too many"})
    assert "too many" in told(replace(user(TAKEN, diverged_at=NOW), events=(event,))).what


def test_who_has_a_person_hears_that_replies_are_withheld() -> None:
    assert "withheld" in told(user(HELD, paused_at=NOW)).then
    assert "withheld" in told(user(delivered(), paused_at=NOW)).then
    by_person = replace(
        delivered(), reply=ReplySummary(source=ReplySource.HUMAN, text="", created_at=NOW)
    )
    assert "withheld" not in told(user(by_person, paused_at=NOW)).then


def test_an_endpoint_that_rests_or_is_switched_off_is_named() -> None:
    gate = ClosedGate(name="webhook:web", reason="status 500", closed_until=at(30))
    behind = delivered(gate=gate.name)
    assert told(replace(behind, gates=(gate,))).until == at(30)
    assert told(replace(delivered(), gates=(gate,))).until == DELIVERY.due_at, "no gate of its own"
    off = replace(gate, reason="switched_off")
    said = told(replace(behind, gates=(off,)))
    assert (said.until, "gates" in said.then) == (None, True)


def test_nobody_is_in_line_where_no_rate_is_set() -> None:
    assert (
        explain(IN_LINE, replace(ROUTING, calls_per_second=None), Timing()).status
        is MessageStatus.WORKER
    )
