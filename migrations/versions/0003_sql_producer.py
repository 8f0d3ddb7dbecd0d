"""A function to queue messages and a view of outcomes: enqueue_message, message_outcomes.

Phase: expand.
Locks: none on existing tables.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# It only inserts and locks no other row: otherwise two producers in opposite order would wait for
# each other, and settling would wait for both. It checks the fields that identify a message; the
# rest is checked when a worker accepts it.
ENQUEUE = r"""
CREATE FUNCTION enqueue_message(envelope jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    entry bigint;
BEGIN
    IF jsonb_typeof(envelope) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'envelope: give a JSON object' USING ERRCODE = 'invalid_parameter_value';
    ELSIF envelope->'version' IS DISTINCT FROM '1'::jsonb THEN
        RAISE EXCEPTION 'version: give 1' USING ERRCODE = 'invalid_parameter_value';
    ELSIF jsonb_typeof(envelope->'channel') IS DISTINCT FROM 'string'
            OR envelope->>'channel' !~ '^[a-z0-9_-]{1,32}$' THEN
        RAISE EXCEPTION 'channel: give 1 to 32 of a-z, 0-9, _ and -'
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF jsonb_typeof(envelope->'user') IS DISTINCT FROM 'string'
            OR length(envelope->>'user') NOT BETWEEN 1 AND 320 THEN
        RAISE EXCEPTION 'user: give 1 to 320 characters' USING ERRCODE = 'invalid_parameter_value';
    ELSIF jsonb_typeof(envelope->'message_id') IS DISTINCT FROM 'string'
            OR length(envelope->>'message_id') NOT BETWEEN 1 AND 998 THEN
        RAISE EXCEPTION 'message_id: give 1 to 998 characters'
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF octet_length(envelope::text) > 1048576 THEN
        RAISE EXCEPTION 'envelope: at most 1048576 bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO inbox (envelope) VALUES (enqueue_message.envelope) RETURNING id INTO entry;
    PERFORM pg_notify('worker_inbox', '');
    RETURN entry;
END
$$;
REVOKE ALL ON FUNCTION enqueue_message(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION enqueue_message(jsonb) IS
    'Queues an envelope, version 1, in the caller''s transaction; gives its id in the inbox.';
"""
# Managed servers forbid creating roles: if this role exists, it may only call the function.
GRANT = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'worker_producer') THEN
        GRANT EXECUTE ON FUNCTION enqueue_message(jsonb) TO worker_producer;
    END IF;
END $$;
"""
OUTCOMES = """
CREATE VIEW message_outcomes AS
SELECT m.id AS message, u.id AS channel_user, u.channel, u.recipient, u.address AS "user",
    u.thread, m.message_id, m.state, m.outcome, m.accepted_at, m.finished_at,
    m.turn_id AS turn, r.id AS reply, r.text, r.source, r.created_at AS replied_at,
    d.state AS delivery, d.finished_at AS delivered_at
FROM messages m JOIN channel_users u ON u.id = m.channel_user_id
    LEFT JOIN replies r ON r.turn_id = m.turn_id
    LEFT JOIN deliveries d ON d.reply_id = r.id;
COMMENT ON VIEW message_outcomes IS 'What became of each message; one row each.';
"""


def upgrade() -> None:
    """Create both."""
    op.execute(ENQUEUE)
    op.execute(GRANT)
    op.execute(OUTCOMES)


def downgrade() -> None:
    """Remove both; rows of the inbox stay."""
    op.execute("DROP VIEW message_outcomes")
    op.execute("DROP FUNCTION enqueue_message(jsonb)")
