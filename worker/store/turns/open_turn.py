"""Opens a turn over waiting messages, and inserts the intent of each of its calls.

All of it happens within a transaction of the caller, which has checked the lease.
"""

import json
from dataclasses import replace

from worker.domain.ids import CallId, TurnId, WorkerId
from worker.domain.messages import input_parts, input_text
from worker.domain.routing import Agent
from worker.domain.states import TurnKind
from worker.domain.turns.claim import Claimed, Intent, instructions_for
from worker.domain.turns.next_step import Record, Send, Work
from worker.domain.turns.records import OpenTurn, Snapshot
from worker.store.consents import stopped
from worker.store.sql import Connection, sql
from worker.store.turns.conversations import ATTACH, BIND, values_to_bind

# One open turn a channel user, even if a lease should fail: without `open_turn_id IS NULL` no row
# comes back, which is an error. The caller has locked the user's row.
# `taken_until` only grows: a message that sorts before it is known to have arrived late.
_OPEN_TURN = """
WITH turn AS (
    INSERT INTO turns
        (channel_user_id, conversation_id, agent, agent_version, kind, input_text, parts,
         opened_at)
    SELECT id, :conversation_id, :agent, :agent_version, :kind, :input_text,
        CAST(:parts AS jsonb), service_now()
    FROM channel_users WHERE id = :user_id AND open_turn_id IS NULL
    RETURNING id, opened_at
), taken AS (
    UPDATE messages SET state = 'in_turn', turn_id = turn.id FROM turn
    WHERE messages.id = ANY(:message_ids) RETURNING messages.order_at
), marked AS (
    UPDATE channel_users SET open_turn_id = turn.id,
        taken_until = greatest(taken_until, (SELECT max(order_at) FROM taken)),
        waiting_since = CASE WHEN :more THEN waiting_since END,
        waiting_due_at = CASE WHEN :more THEN service_now() END,
        note = CASE WHEN :kind = 'human' THEN note END
    FROM turn WHERE channel_users.id = :user_id
)
"""
_OPEN = sql(_OPEN_TURN + "SELECT id, opened_at FROM turn")


def _call(turn: str, source: str, *, number: str = "0, 0") -> str:
    """Return the SQL that inserts an intent; `number`: its round and its attempt."""
    return f"""
INSERT INTO calls
    (channel_user_id, turn_id, conversation_id, round, attempt, token, worker_id,
     instructions_hash, intent_at)
SELECT :user_id, {turn}, :conversation_id, {number}, :token, :worker_id, :instructions_hash,
    service_now() {source} RETURNING id
"""


# The usual case, in one round trip instead of two: the call is made at once.
_OPEN_AND_INTEND = sql(
    f"{_OPEN_TURN}, call AS ({_call('turn.id', 'FROM turn')})"
    " SELECT turn.id, turn.opened_at, call.id AS call_id FROM turn, call"
)
_INTENT = _call(":turn_id", f"WHERE NOT {stopped()}", number=":round, :attempt")
_INTEND = sql(_INTENT)
_BIND_AND_INTEND = sql(
    f"{BIND}, call AS ({_INTENT}) SELECT (SELECT id FROM call) AS call_id FROM bound"
)

# A draft answers an older state of the conversation. The note says that it was not sent.
SUPERSEDE_DRAFTS = sql("""
UPDATE deliveries SET state = 'superseded', due_at = NULL, finished_at = service_now()
WHERE channel_user_id = :user_id AND state = 'held'
""")


def open_turn(
    connection: Connection, snapshot: Snapshot, step: Work, agent: Agent, *, worker_id: WorkerId
) -> tuple[OpenTurn, Intent | None]:
    """Open a turn, with the intent if it can be sent at once."""
    turn = new_turn(snapshot, step)
    # A user with a draft always has a note.
    if snapshot.note is not None:
        connection.execute(SUPERSEDE_DRAFTS, {"user_id": snapshot.lease.user_id})
    values: dict[str, object] = {
        "user_id": snapshot.lease.user_id,
        "conversation_id": turn.conversation_id,
        "agent": agent.name,
        "agent_version": agent.version,
        "kind": turn.kind,
        "input_text": turn.input_text,
        "parts": json.dumps(turn.parts),
        "message_ids": [message.id for message in step.batch],
        "more": len(step.batch) + len(step.expired) < len(snapshot.pending),
    }
    if not isinstance(step, Send):
        row = connection.execute(_OPEN, values).one()
        return replace(turn, id=TurnId(row.id), opened_at=row.opened_at), None
    instructions = instructions_for(agent, snapshot.conversation, turn)
    values |= {
        "token": snapshot.lease.token,
        "worker_id": worker_id,
        "instructions_hash": agent.instructions_hash if instructions else None,
    }
    row = connection.execute(_OPEN_AND_INTEND, values).one()
    turn = replace(turn, id=TurnId(row.id), opened_at=row.opened_at)
    return turn, Intent(call_id=CallId(row.call_id), round=0, attempt=0, instructions=instructions)


def new_turn(snapshot: Snapshot, step: Work, id_: int = 0) -> OpenTurn:
    """Return the turn over a step's batch; without `id_` it is not inserted yet."""
    text, kind = input_text(step.batch), TurnKind.MODEL
    if isinstance(step, Record):
        kind = TurnKind.HUMAN
    # It is about a conversation; a new one, or none, knows nothing of it.
    elif snapshot.note is not None and snapshot.conversation is not None:
        text = f"{snapshot.note}\n{text}"
    return OpenTurn(
        id=TurnId(id_),
        agent=step.agent,
        input_text=text,
        parts=input_parts(step.batch),
        opened_at=snapshot.now,
        messages=len(step.batch),
        reply_to=step.batch[0].reply_to,
        traceparents=tuple(one.traceparent for one in step.batch if one.traceparent),
        kind=kind,
        conversation_id=snapshot.conversation.id if snapshot.conversation else None,
    )


def insert_intent(
    connection: Connection, claimed: Claimed, address_hash: bytes, *, worker_id: WorkerId
) -> Claimed | None:
    """Insert the turn's next call; with the instructions unless the thread has them.

    From now on the turn belongs to the claim's conversation. None = the person has opted out.
    """
    turn, conversation, agent = claimed.turn, claimed.conversation, claimed.agent
    binds = conversation is not None and not conversation.bound
    if not binds and conversation is not None and turn.conversation_id != conversation.id:
        connection.execute(ATTACH, {"turn_id": turn.id, "conversation_id": conversation.id})
    instructions = instructions_for(agent, conversation, turn)
    attempt = sum(call.round == turn.round for call in turn.calls)
    values: dict[str, object] = {
        "user_id": claimed.lease.user_id,
        "turn_id": turn.id,
        "conversation_id": conversation.id if conversation else None,
        "address_hash": address_hash,
        "round": turn.round,
        "attempt": attempt,
        "token": claimed.lease.token,
        "worker_id": worker_id,
        "instructions_hash": agent.instructions_hash if instructions else None,
    }
    if conversation is not None and binds:
        values |= values_to_bind(conversation, turn.id)
        claimed = replace(claimed, conversation=replace(conversation, bound=True))
        call_id = connection.execute(_BIND_AND_INTEND, values).scalar_one()
    else:
        call_id = connection.execute(_INTEND, values).scalar_one_or_none()
    if call_id is None:
        return None
    intent = Intent(
        call_id=CallId(call_id), round=turn.round, attempt=attempt, instructions=instructions
    )
    return replace(claimed, intent=intent)
