"""The log line of a settled turn, and its level."""

from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs

from tests.support.claimed import claimed
from worker.domain.ids import MessageRowId
from worker.domain.messages import PendingMessage
from worker.domain.reasons import DeadLetterReason
from worker.domain.states import ReplySource
from worker.domain.turns.calls import CallOutcome, Done, Fault, NotSent, Refused, Unknown
from worker.domain.turns.next_step import Reconcile, Send
from worker.domain.turns.plan import Diverge, GiveUp, Later, Plan, Replace, Reply
from worker.handlers.telemetry.turns import record_settled

BATCH = tuple(PendingMessage(id=MessageRowId(id_), agent="default", text="hush") for id_ in (4, 5))
REPLY = Reply(text="hush", source=ReplySource.CALL)
GAVE_UP = GiveUp(reason=DeadLetterReason.NO_ANSWER, fallback_text="hush", landed=None)
KEY_REFUSED = Refused(status=401, fault=Fault.ACCOUNT, request_id="r-1")


@pytest.fixture(autouse=True)
def every_level() -> Iterator[None]:
    """Commands that other tests ran in this process have left warnings only."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


def logged(step: Send | Reconcile, outcome: CallOutcome | None, plan: Plan) -> dict[str, object]:
    with capture_logs() as lines:
        record_settled(claimed(step), outcome, plan)
    (line,) = lines
    assert "hush" not in str(line)
    return dict(line)


def test_an_answer_is_logged_with_the_ids_of_its_messages_and_of_telnyx() -> None:
    line = logged(
        Send(agent="default", batch=BATCH),
        Done(status="completed", text="hush", response_id="resp_1", request_id="r-1"),
        REPLY,
    )
    assert line.pop("duration_ms") in range(1000)
    assert line == {
        "event": "turn.settled",
        "log_level": "info",
        "user": 1,
        "turn": 3,
        "messages": [4, 5],
        "call": None,
        "outcome": "Done",
        "response": "resp_1",
        "request": "r-1",
        "plan": "Reply",
    }


def test_a_turn_that_was_opened_before_does_not_name_its_messages_again() -> None:
    assert "messages" not in logged(Reconcile(agent="default"), None, REPLY)


@pytest.mark.parametrize(
    ("outcome", "plan", "level"),
    [
        (NotSent(reason="no connection"), Later(wait_s=1.0, reason="no connection"), "info"),
        (Unknown(reason="timeout"), Later(wait_s=2.0, reason="timeout"), "info"),
        (KEY_REFUSED, Later(wait_s=0.0, reason="account"), "error"),
        (None, GAVE_UP, "warning"),
        (None, Replace(reason="gone"), "warning"),
        (None, Diverge(reason="foreign message"), "error"),
    ],
)
def test_the_level_says_whether_a_person_has_to_act(
    outcome: CallOutcome | None, plan: Plan, level: str
) -> None:
    line = logged(Reconcile(agent="default"), outcome, plan)
    assert line["log_level"] == level
    assert line["reason"] == getattr(plan, "reason")  # noqa: B009 - all of these have one
