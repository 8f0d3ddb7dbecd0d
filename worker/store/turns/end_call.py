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
_AS_NAMED = ("status", "code", "request_id", "response_id", "input_tokens", "output_tokens")
"""The columns that an outcome has fields for, if it has the value at all."""
END_CALL = sql(SET_END_OF_CALL + "WHERE calls.id = :call_id")
"""Ends a call whose turn continues at once; the caller has checked the lease."""


def call_values(
    claimed: Claimed, outcome: CallOutcome | None, *, reply: str | None = None
) -> dict[str, object]:
    """Return the values that every such statement takes: the turn, and how its call ended.

    `reply`: the text that the same statement stores; an answer that is no more is not kept twice.
    """
    values: dict[str, object] = {
        "user_id": claimed.lease.user_id,
        "token": claimed.lease.token,
        "turn_id": claimed.turn.id,
        "call_id": claimed.intent.call_id if claimed.intent else None,
        **{name: getattr(outcome, name, None) for name in _AS_NAMED},
        "output": None,
    }
    state: CallState | None = None
    reason: str | None = None
    match outcome:
        case None:
            pass
        case NotSent():
            state, reason = CallState.NOT_SENT, outcome.reason
        case Unknown():
            state, reason = CallState.UNKNOWN, outcome.reason
        case Refused():
            state, reason = CallState.REFUSED, outcome.fault
        case Done():
            state, reason = CallState.DONE, outcome.incomplete_reason
            # The body's own status is a word.
            values["status"] = 200
            if not (outcome.is_plain_text and outcome.text == reply):
                values["output"] = json.dumps(outcome.output)
    return values | {"call_state": state, "call_reason": reason}
