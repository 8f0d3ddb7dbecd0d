"""Claims a channel user and opens a turn: fence, read, decide and write in one transaction."""

from dataclasses import replace

from worker.domain.ids import ChannelUserId
from worker.domain.messages import MAX_TURN_MESSAGES
from worker.domain.routing import Routing
from worker.domain.screening.consents import OPTED_OUT
from worker.domain.turns.claim import Claimed, NotClaimed
from worker.domain.turns.next_step import (
    Prepare,
    Quit,
    Reconcile,
    Record,
    Release,
    Send,
    Work,
    next_step,
)
from worker.domain.turns.records import Snapshot
from worker.net.clock import boottime
from worker.store.consents import address_hash
from worker.store.limits.budgets import expire, within_budget
from worker.store.limits.loops import break_loop
from worker.store.limits.unanswered import end_messages
from worker.store.sql import Connection, sql
from worker.store.turns.conversations import with_mapping
from worker.store.turns.hand_overs import hand_over_if_asked
from worker.store.turns.lease import DUE_AT, FREE, LeasedStore
from worker.store.turns.open_turn import insert_intent, open_turn
from worker.store.turns.snapshot import close_conversation, read_snapshot

_CLAIM = sql(f"""
UPDATE channel_users u
SET lease_token = lease_token + 1, lease_owner = :worker_id,
    lease_until = service_now() + :lease, woken_at = NULL, due_at = {DUE_AT}
WHERE id = :user_id AND {DUE_AT} <= service_now() AND diverged_at IS NULL
  AND {FREE}
RETURNING channel, recipient, address, thread, lease_token, open_turn_id, paused_at,
    note, service_now() AS now
""")
# A claim that waited for the row may find a user who became due after the claim's own time. Their
# wake is used up by then, so the caller has to try again.
_DUE_IN = sql(f"""
SELECT greatest(extract(epoch FROM {DUE_AT} - service_now()), 0) FROM channel_users u
WHERE id = :user_id AND diverged_at IS NULL
  AND (due_at > service_now() OR {DUE_AT} <= service_now() AND {FREE})
""")
_RELEASE = sql("""
UPDATE channel_users SET lease_owner = NULL, lease_until = NULL, due_at = :due_at,
    waiting_since = CASE WHEN :empty THEN NULL ELSE waiting_since END,
    waiting_due_at = CASE WHEN :empty THEN NULL ELSE waiting_due_at END
WHERE id = :user_id
""")
# The user was free, so the worker that wrote the intent is gone, and whether it sent is unknown.
_LEFT_INTENDED = sql("""
UPDATE calls SET state = 'unknown', reason = 'its worker died', finished_at = service_now()
WHERE turn_id = :turn_id AND state = 'intended'
""")


class ClaimStore(LeasedStore):
    """Claims of channel users."""

    def claim(self, user_id: ChannelUserId) -> Claimed | NotClaimed:
        """Claim the user, decide the next step, and commit it with the intent of its call."""
        values = {"user_id": user_id, "worker_id": self._worker_id, "lease": self._lease}
        # Not within the transaction: the first one reads it on a connection of its own.
        key = self._database.consent_key
        with self._database.transaction() as connection:
            row = connection.execute(_CLAIM, values).one_or_none()
            if row is None:
                due_in_s = connection.execute(_DUE_IN, values).scalar_one_or_none()
                return NotClaimed(due_in_s=None if due_in_s is None else float(due_in_s))
            routing = self._routing()
            hashed = address_hash(key, routing.channel(row.channel).scope, row.address)
            snapshot = read_snapshot(connection, user_id, row, hashed)
            snapshot = break_loop(connection, snapshot, routing)
            snapshot = hand_over_if_asked(connection, snapshot, routing)
            step = next_step(snapshot, routing)
            step = within_budget(connection, snapshot, step, routing)
            if step.expired:
                expire(connection, snapshot, step.expired, routing)
            if isinstance(step, Release):
                return _release(connection, snapshot, step)
            return self._take(connection, snapshot, step, routing, hashed)

    def _take(
        self,
        connection: Connection,
        snapshot: Snapshot,
        step: Work,
        routing: Routing,
        hashed: bytes,
    ) -> Claimed:
        if isinstance(step, Prepare) and step.close and snapshot.conversation:
            close_conversation(connection, snapshot.conversation.id, reason=step.close)
            snapshot = replace(snapshot, conversation=None)
        turn, intent = snapshot.turn, None
        if turn is None:
            agent = routing.agent(step.agent)
            turn, intent = open_turn(connection, snapshot, step, agent, worker_id=self._worker_id)
        if isinstance(step, Reconcile | Quit):
            connection.execute(_LEFT_INTENDED, {"turn_id": turn.id})
        claimed = Claimed.of(snapshot, routing, step, turn, intent, at_s=boottime())
        asks_telnyx = isinstance(step, Prepare | Record) and claimed.channel.persist
        if asks_telnyx and not (claimed.conversation and claimed.conversation.telnyx_id):
            return with_mapping(connection, claimed, self._installation)
        if not isinstance(step, Send) or intent is not None:
            return claimed
        intended = insert_intent(connection, claimed, hashed, worker_id=self._worker_id)
        return intended or replace(claimed, step=Quit(agent=step.agent))


def _release(connection: Connection, snapshot: Snapshot, step: Release) -> NotClaimed:
    user_id = snapshot.lease.user_id
    if step.opted_out:
        end_messages(connection, user_id, step.opted_out, OPTED_OUT)
    ended = len(step.expired) + len(step.over_budget) + len(step.opted_out)
    empty = snapshot.turn is None and ended == len(snapshot.pending) <= MAX_TURN_MESSAGES
    values = {"user_id": user_id, "due_at": step.due_at, "empty": empty}
    connection.execute(_RELEASE, values)
    due_in_s = None if step.due_at is None else (step.due_at - snapshot.now).total_seconds()
    return NotClaimed(
        due_in_s=due_in_s,
        release=step,
        agent=snapshot.pending[0].agent if snapshot.pending else "",
        hand_over=snapshot.hand_over,
        loop=snapshot.loop,
    )
