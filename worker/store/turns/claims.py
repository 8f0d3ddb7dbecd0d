"""Claims a channel user and opens a turn: fence, read, decide and write in one transaction."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TypeAlias

from worker.domain.ids import ChannelUserId, WorkerId
from worker.domain.messages import MAX_TURN_MESSAGES
from worker.domain.routing import Routing
from worker.domain.turns.claim import Claimed, NotClaimed, Work
from worker.domain.turns.next_step import (
    GoOn,
    Prepare,
    Reconcile,
    Release,
    Send,
    Step,
    gate_names,
)
from worker.domain.turns.records import Snapshot
from worker.net.clock import boottime
from worker.store.database import Database
from worker.store.limits.budgets import within_budget
from worker.store.limits.expiry import expire
from worker.store.sql import Connection, sql
from worker.store.turns.open_turn import insert_intent, open_turn
from worker.store.turns.snapshot import close_conversation, read_snapshot

Decide: TypeAlias = Callable[[Snapshot], Step]


# A dead process stops its heartbeat within seconds; its leases may last for minutes.
_FREE = """(lease_owner IS NULL OR lease_until < service_now() OR NOT EXISTS (
      SELECT FROM workers w WHERE w.id = u.lease_owner AND w.alive_until >= service_now()))"""
_CLAIM = sql(f"""
UPDATE channel_users u
SET lease_token = lease_token + 1, lease_owner = :worker_id,
    lease_until = service_now() + :lease, woken_at = NULL
WHERE id = :user_id AND due_at <= service_now() AND diverged_at IS NULL
  AND {_FREE}
RETURNING channel, recipient, address, thread, lease_token, open_turn_id, paused_at,
    service_now() AS now
""")
# A claim that waited for the row may find a user who became due after the claim's own time. Their
# wake is used up by then, so the caller has to try again.
_DUE_IN = sql(f"""
SELECT greatest(extract(epoch FROM due_at - service_now()), 0) FROM channel_users u
WHERE id = :user_id AND diverged_at IS NULL
  AND (due_at > service_now() OR due_at <= service_now() AND {_FREE})
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


class ClaimStore:
    """Claims of channel users."""

    def __init__(
        self, database: Database, *, worker_id: WorkerId, routing: Routing, lease_s: float
    ) -> None:
        self._database = database
        self._worker_id = worker_id
        self._routing = routing
        self._lease = timedelta(seconds=lease_s)

    def claim(self, user_id: ChannelUserId, decide: Decide) -> Claimed | NotClaimed:
        """Claim the user, decide the next step and commit what it needs, with the intent of a call.

        `decide` runs inside the transaction: it must be pure.
        """
        values = {"user_id": user_id, "worker_id": self._worker_id, "lease": self._lease}
        with self._database.transaction() as connection:
            row = connection.execute(_CLAIM, values).one_or_none()
            if row is None:
                due_in_s = connection.execute(_DUE_IN, values).scalar_one_or_none()
                return NotClaimed(due_in_s=None if due_in_s is None else float(due_in_s))
            snapshot = read_snapshot(connection, user_id, row)
            step = within_budget(connection, snapshot, decide(snapshot), self._routing)
            if not isinstance(step, Reconcile | GoOn) and step.expired:
                expire(connection, snapshot, step.expired, self._routing)
            if isinstance(step, Release):
                return _release(connection, snapshot, step)
            return self._take(connection, snapshot, step)

    def _take(self, connection: Connection, snapshot: Snapshot, step: Work) -> Claimed:
        agent = self._routing.agent(step.agent)
        if (
            isinstance(step, Prepare)
            and step.close is not None
            and snapshot.conversation is not None
        ):
            close_conversation(connection, snapshot.conversation.id, reason=step.close)
            snapshot = replace(snapshot, conversation=None)
        turn, intent = snapshot.turn, None
        if turn is None and not isinstance(step, Reconcile | GoOn):
            turn, intent = open_turn(connection, snapshot, step, agent, worker_id=self._worker_id)
        if turn is None:
            raise ValueError("there is no open turn")
        if isinstance(step, Reconcile):
            connection.execute(_LEFT_INTENDED, {"turn_id": turn.id})
        claimed = Claimed(
            lease=snapshot.lease,
            who=snapshot.who,
            now=snapshot.now,
            agent=agent,
            channel=self._routing.channel(snapshot.who.channel),
            delivery_policy=self._routing.delivery_policy(snapshot.who.channel, turn.reply_to),
            turn=turn,
            conversation=snapshot.conversation,
            paused=snapshot.paused,
            step=step,
            intent=intent,
            gates=tuple(
                name
                for name in gate_names(agent=agent.name, model=agent.model)
                if name in snapshot.gates
            ),
            claimed_at_s=boottime(),
        )
        if not isinstance(step, Send) or intent is not None:
            return claimed
        return insert_intent(connection, claimed, worker_id=self._worker_id)


def _release(connection: Connection, snapshot: Snapshot, step: Release) -> NotClaimed:
    ended = len(step.expired) + len(step.over_budget)
    empty = snapshot.turn is None and ended == len(snapshot.pending) <= MAX_TURN_MESSAGES
    values = {"user_id": snapshot.lease.user_id, "due_at": step.due_at, "empty": empty}
    connection.execute(_RELEASE, values)
    due_in_s = None if step.due_at is None else (step.due_at - snapshot.now).total_seconds()
    return NotClaimed(due_in_s=due_in_s, release=step)
