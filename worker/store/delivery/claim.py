"""Claims the oldest delivery of a channel user: one statement, with all that an attempt needs."""

from typing import Final

from worker.store.consents import STOPPED_USER
from worker.store.delivery.gates import GATES_OF_DELIVERY
from worker.store.sql import sql

MAY_HAVE_ARRIVED = "handed_over"
"""`provider_status` while only the answer is missing, of channels that can tell."""
PARKED: Final = "coalesce({0}.counts_from > service_now(), false)"
"""Whether a delivery, named `{0}`, waits for the hours in which its person may be written to. A
newer reply that is due ends the wait: the person may be awake."""
# Only the user's oldest delivery can be claimed, so that a later one does not overtake it, and only
# if no gate is closed: of the channel's endpoint, of the channel at Telnyx, of our address there.
IS_NEXT = f"""d.id = (SELECT id FROM deliveries
            WHERE channel_user_id = :user_id AND state IN ('pending', 'sending')
            ORDER BY coalesce(part_of, id), id LIMIT 1)
      AND (d.due_at <= service_now() OR {PARKED.format("d")} AND EXISTS (
          SELECT FROM deliveries newer WHERE newer.channel_user_id = :user_id
            AND newer.state = 'pending' AND newer.due_at <= service_now()))
      AND (d.lease_until IS NULL OR d.lease_until < service_now())
      AND NOT EXISTS (SELECT FROM gates g
                      WHERE g.closed_until > service_now() AND {GATES_OF_DELIVERY})"""
"""Whether a delivery `d` is the one of :user_id to claim now."""
# Of messages that were skipped, those with a text of ours as their answer have a turn; the others
# may be a machine's. A reply whose first piece has left is not torn apart.
CLAIM = sql(f"""
WITH head AS (
    SELECT d.id, d.state = 'sending' AS interrupted, d.attempts,
        coalesce(d.provider_status = '{MAY_HAVE_ARRIVED}', false) AS may_have_arrived
    FROM deliveries d
    WHERE {IS_NEXT}
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE deliveries d SET state = 'sending', lease_token = lease_token + 1,
        attempts = d.attempts + 1, lease_until = service_now() + :lease,
        due_at = service_now() + :lease, permit_at = NULL,
        first_attempt_at = coalesce(first_attempt_at, service_now())
    FROM head WHERE d.id = head.id
    RETURNING d.*, head.interrupted, head.may_have_arrived, head.attempts AS begun
)
SELECT c.id AS delivery_id, c.channel_user_id AS user_id, c.idempotency_key, c.request,
    c.lease_token AS token, c.begun AS attempts, c.interrupted, c.may_have_arrived,
    c.created_at, coalesce(c.counts_from, c.created_at) AS counts_from,
    CASE WHEN c.begun > 0 THEN c.first_attempt_at END AS first_attempt_at,
    service_now() AS now, coalesce(r.text, '') AS text, r.turn_id, c.channel AS policy_name,
    u.channel, u.recipient, u.address, u.thread,
    u.paused_at IS NOT NULL AND r.source NOT IN ('human', 'hand_over')
        AND coalesce(f.reviewed_at, c.reviewed_at) IS NULL AS paused,
    r.id IS NOT NULL AND coalesce(c.exempt_until <= service_now(), true)
        AND {STOPPED_USER} AS opted_out,
    ARRAY(SELECT m.message_id FROM messages m WHERE m.turn_id = r.turn_id
          ORDER BY m.order_at, m.seq) AS message_ids,
    (SELECT m.envelope->'metadata' FROM messages m WHERE m.turn_id = r.turn_id
     ORDER BY m.order_at DESC, m.seq DESC LIMIT 1) AS metadata,
    (SELECT m.traceparent FROM messages m
     WHERE m.turn_id = r.turn_id AND m.traceparent IS NOT NULL
     ORDER BY m.order_at, m.seq LIMIT 1) AS traceparent,
    EXISTS (SELECT FROM gates g WHERE {GATES_OF_DELIVERY.replace("d.", "c.")}) AS failing,
    greatest(newest.accepted_at, f.finished_at) AS active_at,
    c.channel = ANY(:timed) AND (c.part_of IS NULL OR c.repeats IS NOT NULL) AND EXISTS (
        SELECT FROM messages m WHERE m.channel_user_id = c.channel_user_id
          AND m.state IN ('pending', 'in_turn', 'answered', 'human')
          AND (m.turn_id IS NULL OR m.turn_id > r.turn_id)
          AND m.seq > (SELECT max(seq) FROM messages WHERE turn_id = r.turn_id)) AS answered_later,
    author.agent, EXISTS (
        SELECT FROM disclosures x JOIN deliveries sent ON sent.id = x.delivery_id
        WHERE x.channel_user_id = c.channel_user_id AND sent.state IN ('sent', 'sending', 'unknown')
          AND x.conversation_id IS NOT DISTINCT FROM author.conversation_id
          AND author.agent IS NOT NULL) AS told,
    l.id AS dead_letter, l.reason, l.detail, l.queue, l.task_id, l.names,
    CASE WHEN c.reply_id IS NULL THEN (
        SELECT jsonb_build_object('id', h.id, 'reason', h.reason, 'user_id', who.id, 'who',
            jsonb_build_object('channel', who.channel, 'recipient', who.recipient,
                'address', who.address, 'thread', who.thread))
        FROM hand_overs h JOIN channel_users who ON who.id = h.channel_user_id
        WHERE h.notice_id = c.id) END AS hand_over
FROM claimed c JOIN channel_users u ON u.id = c.channel_user_id
    LEFT JOIN deliveries f ON f.id = c.part_of
    LEFT JOIN replies r ON r.id = coalesce(c.reply_id, f.reply_id)
    LEFT JOIN dead_letters l ON l.notice_id = c.id
    LEFT JOIN LATERAL (SELECT accepted_at FROM messages m
        WHERE m.channel_user_id = c.channel_user_id AND c.channel = ANY(:timed)
          AND (m.state <> 'skipped' OR m.turn_id IS NOT NULL)
        ORDER BY seq DESC LIMIT 1) AS newest ON true
    LEFT JOIN turns author ON author.id = r.turn_id AND c.request IS NULL
        AND c.channel = ANY(:disclosing) AND author.kind = 'model' AND author.agent_version <> ''
""")
