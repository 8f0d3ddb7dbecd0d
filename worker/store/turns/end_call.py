"""Ends a call: the columns, and the values that each outcome has for them."""

import json

from worker.domain.states import CallState
from worker.domain.turns.calls import CallOutcome, Done, NotSent, Refused, Unknown
from worker.domain.turns.claim import Claimed
from worker.store.sql import sql

SET_END_OF_CALL = """
    UPDATE calls SET state = :call_state, reason = :call_reason, status = :status, code = :code,
        request_id = :request_id, response_id = :response_id, output = CAST(:output AS jsonb),
        input_tokens = :input_tokens, output_tokens = :output_tokens, finished_at = service_now()
"""
_CALL_COLUMNS = (
    *("call_state", "call_reason", "status", "code", "request_id", "response_id", "output"),
    *("input_tokens", "output_tokens"),
)
END_CALL = sql(SET_END_OF_CALL + "WHERE calls.id = :call_id")
"""Ends a call whose turn continues at once; the caller has checked the lease."""


def call_values(
    claimed: Claimed, outcome: CallOutcome | None, *, reply: str | None = None
) -> dict[str, object]:
    """Return the values that every such statement takes: the turn, and how its call ended.

    `reply`: the text that the same statement stores; an answer that is no more is not kept twice.
    """
    values: dict[str, object] = {
        **dict.fromkeys(_CALL_COLUMNS),
        "user_id": claimed.lease.user_id,
        "token": claimed.lease.token,
        "turn_id": claimed.turn.id,
        "call_id": claimed.intent.call_id if claimed.intent else None,
    }
    match outcome:
        case None:
            return values
        case NotSent():
            return values | {"call_state": CallState.NOT_SENT, "call_reason": outcome.reason}
        case Unknown():
            return values | {
                "call_state": CallState.UNKNOWN,
                "call_reason": outcome.reason,
                "status": outcome.status,
                "request_id": outcome.request_id,
            }
        case Refused():
            return values | {
                "call_state": CallState.REFUSED,
                "call_reason": outcome.fault,
                "status": outcome.status,
                "code": outcome.code,
                "request_id": outcome.request_id,
            }
        case Done():
            return values | {
                "call_state": CallState.DONE,
                "call_reason": outcome.incomplete_reason,
                "status": 200,
                "request_id": outcome.request_id,
                "response_id": outcome.response_id,
                "output": None
                if outcome.is_plain_text and outcome.text == reply
                else json.dumps(outcome.output),
                "input_tokens": outcome.input_tokens,
                "output_tokens": outcome.output_tokens,
            }
