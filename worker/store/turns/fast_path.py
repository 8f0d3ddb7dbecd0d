"""The fast path: accept a message, claim its user, open the turn and commit the intent at once.

`MessageStore.accept` and `ClaimStore.claim` need nine round trips for that. Here it is one round
trip, for the usual case: a known user writes and has no other work in progress. For a new user it
is a second one, with the mapping in place of the intent: their conversation does not exist yet. All
other cases are left to those two.
"""

import json
from dataclasses import replace
from datetime import timedelta

from worker.domain.ids import CallId, ChannelUserId, MessageRowId
from worker.domain.messages import Accepted, NewMessage, PendingMessage, input_parts, input_text
from worker.domain.people.hand_over import wanted_by
from worker.domain.routing import Routing
from worker.domain.turns.claim import Claimed, Intent
from worker.domain.turns.next_step import Prepare, Send, Work
from worker.domain.turns.records import Lease, OpenConversation, Snapshot
from worker.net.clock import boottime
from worker.store.complete import IS_COMPLETE
from worker.store.consents import stopped
from worker.store.limits.loops import may_loop
from worker.store.rows import PLACE_IN_ORDER, values_of_message
from worker.store.sql import Row, sql
from worker.store.turns.lease import LeasedStore
from worker.store.turns.open_turn import new_turn

_USER = """u.channel = :channel AND u.recipient = :recipient AND u.address = :address
      AND u.thread = :thread"""
_MAY_START = f"""coalesce(CAST(:expires_at AS timestamptz) > service_now(), true)
      AND NOT EXISTS (SELECT FROM gates WHERE name = ANY(:gates))
      AND NOT {stopped()}"""


def _opened(user: str, conversation: str, *, late: str) -> str:
    """Return the CTEs that open a turn over the message; `user`: the CTE of its channel user."""
    return f"""turn AS (
    INSERT INTO turns (id, channel_user_id, conversation_id, agent, agent_version, kind, input_text,
        parts, opened_at) OVERRIDING SYSTEM VALUE
    SELECT turn_id, user_id, {conversation}, :agent, :agent_version, 'model', :input_text,
        CAST(:parts AS jsonb), service_now()
    FROM {user}
), message AS (
    INSERT INTO messages (channel_user_id, message_id, seq, order_at, agent, envelope, expires_at,
        accepted_at, late, state, turn_id, traceparent, task_id)
    SELECT user_id, :message_id, seq, order_at, :agent, CAST(:envelope AS jsonb), :expires_at,
        service_now(), {late}, 'in_turn', turn_id, :traceparent, CAST(:task_id AS uuid)
    FROM {user} RETURNING id"""


# `quiet` finds the usual case in the statement's snapshot. An UPDATE that waited for its row reads
# that row anew, but every other row as before; so `xmin` must still be that of the snapshot. This
# is enough, because everything a claim reads is written together with the user's row.
# `due_at` stays NULL until the call has ended, so the user's row changes in no index, neither here
# nor as the turn is settled. If nobody settles it, a sweep finds the user by the intent; those of
# release 0.1.0 do not, so beside them it is set.
_START = sql(f"""
WITH quiet AS MATERIALIZED (
    SELECT u.id AS user_id, u.xmin AS version, u.taken_until,
        {PLACE_IN_ORDER} AS order_at,
        c.id, c.remote_key, c.telnyx_conversation_id, c.base_user_messages,
        c.instructions_hash
    FROM channel_users u
    JOIN conversations c ON c.channel_user_id = u.id AND c.agent = :agent AND c.closed_at IS NULL
    LEFT JOIN LATERAL (SELECT finished_at FROM turns t WHERE t.conversation_id = c.id
        ORDER BY id DESC LIMIT 1) AS last ON true
    WHERE {_USER}
      AND u.lease_owner IS NULL AND u.open_turn_id IS NULL AND u.waiting_since IS NULL
      AND u.paused_at IS NULL AND u.diverged_at IS NULL AND u.note IS NULL
      AND c.telnyx_conversation_id IS NOT NULL AND NOT c.owes_outputs
      AND (CAST(:instructions_hash AS text) IS NULL OR c.instructions_hash = :instructions_hash)
      AND (SELECT count(*) FROM turns t WHERE t.conversation_id = c.id) < :max_turns
      AND coalesce(last.finished_at + CAST(:idle_reset AS interval) > service_now(), true)
      AND NOT EXISTS (SELECT FROM cluster
          WHERE one AND replaced_at > coalesce(c.compared_at, c.opened_at))
      AND {_MAY_START}
      AND NOT EXISTS (SELECT FROM messages m
          WHERE m.channel_user_id = u.id AND m.message_id = :message_id)
      AND NOT (:loop_breaker AND {may_loop("CAST(:input_text AS text)")})
), started AS (
    UPDATE channel_users u SET agent = :agent, surplus = :surplus, next_seq = u.next_seq + 1,
        due_at = CASE WHEN EXISTS (SELECT FROM workers w WHERE NOT w.finds_intents
            AND w.alive_until >= service_now()) THEN service_now() ELSE u.due_at END,
        woken_at = NULL, open_turn_id = nextval('turns_id_seq'),
        taken_until = greatest(u.taken_until, quiet.order_at),
        lease_token = u.lease_token + 1, lease_owner = :worker_id,
        lease_until = service_now() + :lease
    FROM quiet WHERE u.id = quiet.user_id AND u.xmin = quiet.version
    RETURNING u.next_seq - 1 AS seq, u.open_turn_id AS turn_id, u.lease_token, quiet.*
), {_opened("started", "id", late="coalesce(order_at < taken_until, false)")}
), call AS (
    INSERT INTO calls (channel_user_id, turn_id, conversation_id, round, attempt, token, worker_id,
        intent_at)
    SELECT user_id, turn_id, id, 0, 0, lease_token, :worker_id, service_now()
    FROM started RETURNING id
)
SELECT started.*, message.id AS message_row_id, call.id AS call_id, service_now() AS now,
    false AS may_exist,
    seq IS NULL AND NOT EXISTS (SELECT FROM channel_users u WHERE {_USER}) AS is_new
FROM (SELECT) AS one LEFT JOIN (started CROSS JOIN message CROSS JOIN call) ON true
""")
# Not in the statement above: each later message would pay for its planning.
_MEET = sql(f"""
WITH met AS (
    INSERT INTO channel_users (channel, recipient, address, thread, address_group, surplus, agent,
        next_seq, due_at, open_turn_id, taken_until, lease_token, lease_owner, lease_until)
    SELECT :channel, :recipient, :address, :thread, :group, :surplus, :agent,
        2, service_now(), nextval('turns_id_seq'), {PLACE_IN_ORDER}, 1, :worker_id,
        service_now() + :lease
    WHERE {_MAY_START}
    ON CONFLICT DO NOTHING
    RETURNING id AS user_id, next_seq - 1 AS seq, open_turn_id AS turn_id, lease_token,
        taken_until AS order_at
), mapping AS (
    INSERT INTO conversations (channel_user_id, agent) SELECT user_id, :agent FROM met
    RETURNING id, remote_key, telnyx_conversation_id, base_user_messages, instructions_hash
), {_opened("met", "NULL", late="false")}
)
SELECT met.*, mapping.*, message.id AS message_row_id, service_now() AS now,
    NOT {IS_COMPLETE} AS may_exist, true AS is_new
FROM met, mapping, message
""")


class StartStore(LeasedStore):
    """Starts the turn of a message in the transaction that accepts it."""

    def start(
        self, message: NewMessage, *, traceparent: str | None = None
    ) -> tuple[Accepted, Claimed] | None:
        """Accept a message and start its turn; None = not the usual case, nothing was changed."""
        routing = self._routing()
        policy = routing.channel(message.who.channel)
        agent = routing.agent(message.agent)
        # A debounced message has to wait, a skipped one gets no turn, a stateless channel has no
        # mapping; a budget and a shared rate have to be read before a turn opens.
        if message.hold_s > 0 or message.skip is not None or not policy.persist:
            return None
        if agent.budget is not None or routing.calls_per_second is not None:
            return None
        if agent.hand_over is not None and wanted_by([message.text], agent.hand_over):
            return None
        idle_s = policy.idle_reset_s
        values = values_of_message(message, traceparent) | {
            "input_text": input_text([message]),
            "loop_breaker": policy.breaks_loops,
            "parts": json.dumps(input_parts([message])),
            "agent_version": agent.version,
            "instructions_hash": agent.instructions_hash if agent.instructions else None,
            "max_turns": agent.max_turns,
            "idle_reset": None if idle_s is None else timedelta(seconds=idle_s),
            "gates": list(agent.gates),
            "address_hash": self._address_hash(message.who),
            "worker_id": self._worker_id,
            "installation": self._installation,
            "lease": self._lease,
        }
        row = self._row(_START, values)
        if row is not None and row.is_new:
            row = self._row(_MEET, values)
        if row is None or row.seq is None:
            return None
        return _started(message, traceparent, row, routing)


def _started(
    message: NewMessage, traceparent: str | None, row: Row, routing: Routing
) -> tuple[Accepted, Claimed]:
    accepted = Accepted(
        id=MessageRowId(row.message_row_id),
        user_id=ChannelUserId(row.user_id),
        fresh=True,
        first_in_line=True,
    )
    pending = PendingMessage(
        id=accepted.id,
        agent=message.agent,
        text=message.text,
        attachments=message.attachments,
        accepted_at=row.now,
        reply_to=message.reply_to,
        traceparent=traceparent,
    )
    # Field by field: this is the hot path, and `value_of` costs more.
    conversation = OpenConversation(
        id=row.id,
        agent=message.agent,
        remote_key=row.remote_key,
        telnyx_id=row.telnyx_conversation_id,
        base_user_messages=row.base_user_messages,
        instructions_hash=row.instructions_hash,
        may_exist=row.may_exist,
    )
    snapshot = Snapshot(
        lease=Lease(user_id=accepted.user_id, token=row.lease_token),
        who=message.who,
        now=row.now,
        turn=None,
        pending=(pending,),
        conversation=conversation,
        gates={},
    )
    step: Work = Send(agent=message.agent, batch=(pending,))
    turn = new_turn(snapshot, step, row.turn_id)
    if row.is_new:
        step = Prepare(agent=message.agent, batch=(pending,))
        turn = replace(turn, conversation_id=None)
        claimed = Claimed.of(snapshot, routing, step, turn, None, at_s=boottime())
        return accepted, replace(claimed, is_new=True)
    intent = Intent(call_id=CallId(row.call_id), round=0, attempt=0, instructions=None)
    return accepted, Claimed.of(snapshot, routing, step, turn, intent, at_s=boottime())
