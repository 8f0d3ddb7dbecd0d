"""Hands a channel user over to our staff: paused, noted, told. All in the caller's transaction."""

from dataclasses import replace

from worker.domain.ids import ChannelUserId, TurnId
from worker.domain.people.hand_over import HandOverReason, wanted_by
from worker.domain.routing import Agent, ChannelPolicy, Routing
from worker.domain.states import ReplySource
from worker.domain.turns.records import Snapshot
from worker.store.rows import NOTICE, reply_with_delivery
from worker.store.sql import Connection, sql

# A worker of the version before may have resumed the user without ending the hand-over.
_HAND_OVER = sql(f"""
WITH paused AS (
    UPDATE channel_users SET paused_at = coalesce(paused_at, service_now()),
        pause_reason = 'hand_over'
    WHERE id = :user_id
), earlier AS (
    UPDATE hand_overs SET ended_at = service_now()
    WHERE channel_user_id = :user_id AND ended_at IS NULL
), {NOTICE}
INSERT INTO hand_overs (channel_user_id, turn_id, agent, reason, notice_id, created_at)
VALUES (:user_id, :turn_id, :agent, :reason, (SELECT id FROM notice), service_now())
""")
# Like a message of our staff that is only delivered; our staff has not written it.
_TELL = sql(
    """
WITH turn AS (
    INSERT INTO turns (channel_user_id, agent, agent_version, kind, input_text, state, landed,
        opened_at, finished_at)
    VALUES (:user_id, :agent, '', 'human', :text, 'answered', false, service_now(), service_now())
    RETURNING id
)"""
    + reply_with_delivery(first_state="CAST(:delivery_state AS text)")
    + " SELECT id FROM delivery"
)
_FAILED_IN_A_ROW = sql("""
SELECT count(*) = :number AND bool_and(state = 'failed') FROM (
    SELECT state FROM turns
    WHERE channel_user_id = :user_id AND kind = 'model' AND state <> 'open' AND agent_version <> ''
      AND (failure IS NULL OR failure NOT IN ('split', 'opted_out'))
      AND opened_at > coalesce((SELECT max(ended_at) FROM hand_overs
                                WHERE channel_user_id = :user_id), '-infinity')
    ORDER BY id DESC LIMIT :number) AS last
""")


def hand_over(
    connection: Connection,
    user_id: ChannelUserId,
    reason: HandOverReason,
    *,
    agent: Agent,
    policy: ChannelPolicy,
    turn: TurnId | None,
) -> None:
    """Pause the user, note it, and tell our staff and the person; the caller holds their row.

    `policy`: how the person is told. `turn`: the one that led to it; None = it was not opened.
    """
    configured = agent.hand_over
    if configured is None:
        raise ValueError("this agent hands nothing over")
    values: dict[str, object] = {
        "user_id": user_id,
        "turn_id": turn,
        "agent": agent.name,
        "reason": reason,
        "route": configured.notify,
        "place": str(user_id),
    }
    connection.execute(_HAND_OVER, values)
    if configured.text is not None:
        told = {"text": configured.text, "source": ReplySource.HAND_OVER, "channel": policy.name}
        connection.execute(_TELL, values | told | {"delivery_state": policy.first_delivery_state})


def hand_over_if_asked(connection: Connection, snapshot: Snapshot, routing: Routing) -> Snapshot:
    """Hand the user over if a waiting message asks for it; the caller has just claimed them."""
    if not snapshot.pending or snapshot.paused or snapshot.opted_out:
        return snapshot
    first = snapshot.pending[0]
    agent = routing.agents.get(first.agent)
    if agent is None or agent.hand_over is None:
        return snapshot
    reason = wanted_by([one.text for one in snapshot.pending], agent.hand_over)
    if reason is None:
        return snapshot
    policy = routing.delivery_policy(snapshot.who.channel, first.reply_to)
    user_id = snapshot.lease.user_id
    hand_over(connection, user_id, reason, agent=agent, policy=policy, turn=None)
    return replace(snapshot, paused=True, hand_over=reason)


def failed_in_a_row(connection: Connection, user_id: ChannelUserId, number: int) -> bool:
    """Return whether the user's last turns, `number` of them, had no answer of the model.

    Those before the end of a hand-over do not count: our staff has dealt with them.
    """
    values = {"user_id": user_id, "number": number}
    return bool(connection.execute(_FAILED_IN_A_ROW, values).scalar_one())
