"""Calls of the model, and the tool calls that it asks for.

Tool calls are committed before a tool runs, and owed to the thread until it has their outputs. All
of it happens within a transaction of the caller, which has checked the lease.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict

from worker.domain.ids import ConversationId, TurnId
from worker.domain.states import CallState
from worker.domain.tools import ToolResult
from worker.domain.turns.calls import CallOutcome, Done, NotSent, Refused, ToolCall, Unknown
from worker.domain.turns.claim import Claimed
from worker.domain.turns.records import ToolRecord
from worker.domain.turns.wanted_tools import wanted_tools
from worker.store.rows import value_of
from worker.store.sql import Connection, sql

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


_RECORD = """c.turn_id, c.round, c.call_id, coalesce(c.given_ids, '{}') AS given_ids, c.name,
    c.arguments, c.token, c.state, c.output"""
_OF_TURN = sql(f"SELECT {_RECORD} FROM tool_calls c WHERE turn_id = :turn_id ORDER BY id")
_OWED = sql(f"""
SELECT {_RECORD} FROM tool_calls c JOIN turns t ON t.id = c.turn_id
WHERE t.conversation_id = :conversation_id AND t.state <> 'open' AND c.answered_at IS NULL
ORDER BY c.id
""")
# DO NOTHING: calls that were adopted from the thread may have been inserted by the first worker.
_INSERT = sql("""
INSERT INTO tool_calls (turn_id, round, call_id, given_ids, name, arguments, token, state, output,
    started_at, finished_at)
SELECT :turn_id, :round, call_id, nullif(given_ids, '{}'), name, arguments, :token,
    CASE WHEN output IS NULL THEN 'started' ELSE 'failed' END, output,
    service_now(), CASE WHEN output IS NOT NULL THEN service_now() END
FROM jsonb_to_recordset(CAST(:calls AS jsonb))
    AS one (call_id text, given_ids text[], name text, arguments text, output text)
ON CONFLICT (turn_id, round, call_id) DO NOTHING
""")
_FINISH = sql("""
UPDATE tool_calls SET state = :state, output = :output, finished_at = service_now()
WHERE turn_id = :turn_id AND round = :round AND call_id = :call_id
""")
_ANSWERED = sql("""
UPDATE tool_calls c SET answered_at = service_now() FROM turns t
WHERE t.id = c.turn_id AND c.answered_at IS NULL
  AND (t.id = :turn_id OR (t.conversation_id = :conversation_id AND t.state <> 'open'))
""")
# A flag of the conversation, so that a claim need not search the tool calls of all its turns.
_OWES = sql("""
UPDATE conversations SET owes_outputs = EXISTS (
    SELECT FROM tool_calls c JOIN turns t ON t.id = c.turn_id
    WHERE t.conversation_id = :conversation_id AND c.answered_at IS NULL)
WHERE id = :conversation_id
""")


def of_turn(connection: Connection, turn_id: TurnId) -> tuple[ToolRecord, ...]:
    """Read the tool calls of a turn, oldest first."""
    rows = connection.execute(_OF_TURN, {"turn_id": turn_id})
    return tuple(value_of(ToolRecord, row) for row in rows)


def owed(connection: Connection, conversation_id: ConversationId) -> tuple[ToolRecord, ...]:
    """Read the tool calls of ended turns whose outputs the thread lacks."""
    rows = connection.execute(_OWED, {"conversation_id": conversation_id})
    return tuple(value_of(ToolRecord, row) for row in rows)


def insert(
    connection: Connection,
    claimed: Claimed,
    calls: Sequence[ToolCall],
    *,
    not_run: str | None = None,
) -> None:
    """Insert calls that the model has asked for. `not_run`: the output of calls never to be run."""
    rows = [asdict(one) | {"output": not_run or one.output} for one in wanted_tools(calls)]
    values = {
        "turn_id": claimed.turn.id,
        "round": claimed.turn.round,
        "token": claimed.lease.token,
        "calls": json.dumps(rows),
    }
    connection.execute(_INSERT, values)


def finish(connection: Connection, record: ToolRecord, result: ToolResult) -> None:
    """Record the result of a tool call."""
    connection.execute(_FINISH, asdict(record) | asdict(result))


def mark_answered(connection: Connection, claimed: Claimed) -> None:
    """Record that a call has carried all outputs to the thread."""
    conversation_id = claimed.conversation.id if claimed.conversation else None
    values = {"turn_id": claimed.turn.id, "conversation_id": conversation_id}
    connection.execute(_ANSWERED, values)


def note_debt(connection: Connection, conversation_id: ConversationId) -> None:
    """Record whether the thread lacks outputs, with which the next turn then starts."""
    connection.execute(_OWES, {"conversation_id": conversation_id})
