"""Intents and the end of turns. Every write is checked against the fencing token."""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy import Connection, TextClause, text

from worker.domain.calls import CallOutcome, Done, NotSent, Refused, Unknown
from worker.domain.errors import StaleLeaseError
from worker.domain.ids import ConversationId, TurnId, WorkerId
from worker.domain.readback import EndedTurn
from worker.domain.settle import Diverge, GiveUp, Later, Plan, Replace, Reply, Split
from worker.domain.states import CallState, DeliveryState, MessageState, ReplySource, TurnState
from worker.domain.turns import Lease, OpenConversation
from worker.store.claims import Claimed, insert_intent
from worker.store.database import Database
from worker.store.fence import hold
from worker.store.gates import close_gate, reopen_gates

_ATTACH = text("UPDATE turns SET conversation_id = :conversation_id WHERE id = :turn_id")
# One statement: the fence, the call, and the user's release. Everything hangs on `fenced`.
_CALL_ENDS = """
fenced AS (
    UPDATE channel_users SET {release}
    WHERE id = :user_id AND lease_token = :token RETURNING id
), ended AS (
    UPDATE calls SET state = :call_state, reason = :call_reason, status = :status, code = :code,
        request_id = :request_id, response_id = :response_id, output = CAST(:output AS jsonb),
        input_tokens = :input_tokens, output_tokens = :output_tokens, finished_at = service_now()
    FROM fenced WHERE calls.id = :call_id
)"""
_RELEASED = """lease_owner = NULL, lease_until = NULL,
        open_turn_id = NULL, due_at = waiting_due_at"""
_LATER = text(
    "WITH "
    + _CALL_ENDS.format(
        release="lease_owner = NULL, lease_until = NULL, due_at = service_now() + :wait"
    )
    + " SELECT id FROM fenced"
)
_TURN_ENDS = """
, turn AS (
    UPDATE turns SET state = :turn_state, landed = :landed, failure = :failure,
        finished_at = service_now()
    FROM fenced WHERE turns.id = :turn_id RETURNING turns.id, turns.conversation_id
), told AS (
    UPDATE conversations c SET instructions_hash = sent.instructions_hash
    FROM turn JOIN calls sent ON sent.turn_id = turn.id
    WHERE :landed AND c.id = turn.conversation_id AND sent.conversation_id = c.id
      AND sent.instructions_hash IS NOT NULL
), messages_ended AS (
    UPDATE messages SET state = :message_state, outcome = :outcome, finished_at = service_now()
    FROM turn WHERE messages.turn_id = turn.id RETURNING messages.id
)"""
_ANSWERED = text(
    "WITH "
    + _CALL_ENDS.format(release=_RELEASED)
    + _TURN_ENDS
    + """
, reply AS (
    INSERT INTO replies (turn_id, text, source, created_at)
    SELECT id, :text, :source, service_now() FROM turn RETURNING id
), delivery AS (
    INSERT INTO deliveries (reply_id, channel_user_id, channel, state, finished_at, created_at)
    SELECT reply.id, :user_id, :channel, :delivery_state, service_now(), service_now() FROM reply
)
SELECT id FROM fenced"""
)
_DIED = text(
    "WITH "
    + _CALL_ENDS.format(release=_RELEASED)
    + _TURN_ENDS
    + """
, letters AS (
    INSERT INTO dead_letters (kind, message_row_id, reason, created_at)
    SELECT 'message', id, :failure, service_now() FROM messages_ended
)
SELECT id FROM fenced"""
)


_REPLACED = text(
    "WITH "
    + _CALL_ENDS.format(release="lease_owner = NULL, lease_until = NULL, due_at = service_now()")
    + """
, turn AS (
    UPDATE turns t SET conversation_id = NULL FROM fenced, turns was
    WHERE t.id = :turn_id AND was.id = t.id RETURNING was.conversation_id
), closed AS (
    UPDATE conversations c SET closed_at = service_now(), close_reason = :reason
    FROM turn WHERE c.id = turn.conversation_id RETURNING c.id
), noted AS (
    INSERT INTO attempt_log (event, channel_user_id, turn_id, token, facts)
    SELECT 'conversation.replaced', :user_id, :turn_id, :token,
        jsonb_build_object('conversation', id, 'reason', CAST(:reason AS text)) FROM closed
)
SELECT id FROM fenced"""
)
_SPLIT = text(
    "WITH "
    + _CALL_ENDS.format(
        release="""lease_owner = NULL, lease_until = NULL, open_turn_id = NULL,
        due_at = service_now(), waiting_due_at = service_now(),
        waiting_since = coalesce(waiting_since, service_now())"""
    )
    + """
, turn AS (
    UPDATE turns SET state = 'failed', landed = false, failure = 'split',
        finished_at = service_now()
    FROM fenced WHERE turns.id = :turn_id RETURNING turns.id
), back AS (
    UPDATE messages SET state = 'pending', turn_id = NULL, alone = true
    FROM turn WHERE messages.turn_id = turn.id
)
SELECT id FROM fenced"""
)
_DIVERGED = text(
    "WITH "
    + _CALL_ENDS.format(
        release="lease_owner = NULL, lease_until = NULL, diverged_at = service_now()"
    )
    + """
, noted AS (
    INSERT INTO attempt_log (event, channel_user_id, turn_id, token, facts)
    SELECT 'diverged', :user_id, :turn_id, :token, CAST(:facts AS jsonb) FROM fenced
)
SELECT id FROM fenced"""
)
_HISTORY = text("""
SELECT id, input_text, landed FROM turns
WHERE conversation_id = :conversation_id AND state <> 'open' AND landed IS NOT FALSE ORDER BY id
""")
_LANDED = text("UPDATE turns SET landed = true WHERE id = ANY(:turn_ids)")
_OTHERS_REFUSED = text("""
SELECT count(DISTINCT channel_user_id) FROM turns
WHERE agent = :agent AND failure = 'refused' AND channel_user_id <> :user_id
  AND finished_at > coalesce(
    (SELECT max(finished_at) FROM turns WHERE agent = :agent AND state = 'answered'),
    '-infinity')
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The ended turns of one conversation."""

    landed: int
    """How many of them are in Telnyx's log."""
    ended: tuple[EndedTurn, ...]
    """Those of which it is not known, oldest first."""


class TurnStore:
    """The open turn of a claimed user."""

    def __init__(self, database: Database, *, worker_id: WorkerId, lease_s: float) -> None:
        self._database = database
        self._worker_id = worker_id
        self._lease = timedelta(seconds=lease_s)

    def intend(self, claimed: Claimed, conversation: OpenConversation | None) -> Claimed:
        """Commit the intent of a call on `conversation`; None = stateless."""
        ready = replace(claimed, conversation=conversation)
        with self._database.transaction() as connection:
            hold(connection, claimed.lease, lease_for=self._lease)
            turn_id = claimed.turn.id
            if conversation is not None:
                connection.execute(
                    _ATTACH, {"turn_id": turn_id, "conversation_id": conversation.id}
                )
            intent = insert_intent(connection, ready, worker_id=self._worker_id)
        return replace(ready, intent=intent)

    def settle(self, claimed: Claimed, outcome: CallOutcome | None, plan: Plan) -> None:
        """Commit how a call ended and what follows, and let the user go. All of it, or nothing.

        `outcome` None = the plan comes of a look at the thread, not of a call. Raises `StaleLeaseError` when another worker has taken over: nothing was written.
        """
        values = _call_values(claimed, outcome)
        match plan:
            case Reply():
                statement, more = _ANSWERED, _reply_values(claimed, plan.text, plan.source)
            case GiveUp(fallback_text=str(fallback)):
                statement = _ANSWERED
                more = _reply_values(claimed, fallback, ReplySource.FALLBACK)
                more |= {"failure": plan.reason, "landed": plan.landed}
            case GiveUp():
                statement, more = _DIED, _dead_values(plan)
            case Later():
                statement, more = _LATER, {"wait": timedelta(seconds=plan.wait_s)}
            case Replace():
                statement, more = _REPLACED, {"reason": plan.reason}
            case Split():
                statement, more = _SPLIT, {}
            case Diverge():
                statement, more = _DIVERGED, {"facts": json.dumps({"reason": plan.reason})}
        with self._database.transaction() as connection:
            if isinstance(plan, Later) and plan.gate is not None:
                close_gate(connection, plan.gate)
            elif isinstance(outcome, Done) and claimed.gates:
                reopen_gates(connection, claimed.gates)
            _fenced(connection, statement, values | more)

    def history(self, conversation: ConversationId) -> History:
        """Give what the log of a conversation should hold of ended turns."""
        with self._database.statement() as connection:
            rows = connection.execute(_HISTORY, {"conversation_id": conversation}).all()
        return History(
            landed=sum(row.landed is True for row in rows),
            ended=tuple(
                EndedTurn(id=TurnId(row.id), input_text=row.input_text)
                for row in rows
                if row.landed is None
            ),
        )

    def mark_landed(self, lease: Lease, turns: Collection[TurnId]) -> None:
        """Commit that earlier turns did land. Raises `StaleLeaseError`."""
        with self._database.transaction() as connection:
            hold(connection, lease, lease_for=self._lease)
            connection.execute(_LANDED, {"turn_ids": list(turns)})

    def others_refused(self, claimed: Claimed) -> int:
        """Count the other users whose message this agent was refused for since its last success."""
        values = {"agent": claimed.agent.name, "user_id": claimed.lease.user_id}
        with self._database.statement() as connection:
            return int(connection.execute(_OTHERS_REFUSED, values).scalar_one())


def _fenced(connection: Connection, statement: TextClause, values: dict[str, object]) -> None:
    if connection.execute(statement, values).one_or_none() is None:
        raise StaleLeaseError("another worker has taken this channel user over")


def _call_values(claimed: Claimed, outcome: CallOutcome | None) -> dict[str, object]:
    values: dict[str, object] = {
        "user_id": claimed.lease.user_id,
        "token": claimed.lease.token,
        "turn_id": claimed.turn.id,
        "call_id": claimed.intent.call_id if claimed.intent else None,
        "call_state": None,
        "call_reason": None,
        "status": None,
        "code": None,
        "request_id": None,
        "response_id": None,
        "output": None,
        "input_tokens": None,
        "output_tokens": None,
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
                "output": json.dumps(outcome.output),
                "input_tokens": outcome.usage.input_tokens,
                "output_tokens": outcome.usage.output_tokens,
            }


def _reply_values(claimed: Claimed, text_: str, source: ReplySource) -> dict[str, object]:
    fallback = source is ReplySource.FALLBACK
    return {
        "turn_state": TurnState.FAILED if fallback else TurnState.ANSWERED,
        "landed": True,
        "failure": None,
        "message_state": MessageState.ANSWERED,
        "outcome": "fallback" if fallback else "answered",
        "text": text_,
        "source": source,
        "channel": claimed.who.channel,
        "delivery_state": DeliveryState.SENT,
    }


def _dead_values(plan: GiveUp) -> dict[str, object]:
    return {
        "turn_state": TurnState.FAILED,
        "landed": plan.landed,
        "failure": plan.reason,
        "message_state": MessageState.DEAD,
        "outcome": plan.reason,
    }
