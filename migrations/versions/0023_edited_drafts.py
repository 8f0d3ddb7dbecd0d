"""Drafts as the model wrote them; `message_outcomes` shows no reply that nobody has approved.

Phase: expand.
Locks: ACCESS EXCLUSIVE on replies and the view, briefly: no column is filled in. Each step may be
run again.
"""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

VIEW = """
CREATE OR REPLACE VIEW message_outcomes AS
SELECT m.id AS message, u.id AS channel_user, u.channel, u.recipient, u.address AS "user",
    u.thread, m.message_id, m.state, m.outcome, m.accepted_at, m.finished_at,
    m.turn_id AS turn, r.id AS reply, {text} AS text, r.source, r.created_at AS replied_at,
    d.state AS delivery, d.finished_at AS delivered_at, CAST(NULL AS text) AS detail, m.task_id,
    CAST(NULL AS bigint) AS dead_letter, d.receipt, d.receipt_error, d.receipt_at
FROM messages m JOIN channel_users u ON u.id = m.channel_user_id
    LEFT JOIN replies r ON r.turn_id = m.turn_id
    LEFT JOIN LATERAL (
        SELECT p.state, p.finished_at, p.receipt, p.receipt_error, p.receipt_at{more}
        FROM deliveries f JOIN deliveries p ON p.id = f.id OR p.part_of = f.id
        WHERE f.reply_id = r.id AND NOT EXISTS (
            SELECT FROM deliveries a WHERE a.part_of = f.id AND a.repeats = p.id)
        ORDER BY p.state = 'sent', p.state = 'cancelled', p.id DESC LIMIT 1) d ON true
UNION ALL
SELECT NULL, NULL, l.names ->> 'channel', l.names ->> 'recipient', l.names ->> 'user',
    l.names ->> 'thread', l.names ->> 'message_id', 'refused', l.reason, NULL, l.created_at,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, l.detail, l.task_id, l.id, NULL, NULL, NULL
FROM dead_letters l
WHERE l.names IS NOT NULL AND l.resolution IS NULL AND NOT EXISTS (
    SELECT FROM channel_users u JOIN messages m ON m.channel_user_id = u.id
    WHERE u.channel = l.names ->> 'channel' AND u.recipient = l.names ->> 'recipient'
      AND u.address = l.names ->> 'user' AND u.thread = l.names ->> 'thread'
      AND m.message_id = l.names ->> 'message_id')
  AND NOT EXISTS (
    SELECT FROM dead_letters later
    WHERE later.names ->> 'message_id' = l.names ->> 'message_id' AND later.names = l.names
      AND later.names IS NOT NULL AND later.resolution IS NULL AND later.id > l.id)
"""
# Programs show this text to people.
APPROVED = "CASE WHEN d.is_draft IS NOT TRUE THEN r.text END"
IS_DRAFT = """, f.held_for IS NOT NULL
            AND (f.reviewed_at IS NULL OR f.state = 'rejected') AS is_draft"""


def upgrade() -> None:
    """Add all."""
    op.execute("""
        ALTER TABLE replies
            ADD COLUMN IF NOT EXISTS draft text, ADD COLUMN IF NOT EXISTS changed real
    """)
    op.execute(VIEW.format(text=APPROVED, more=IS_DRAFT))


def downgrade() -> None:
    """Remove them."""
    op.execute(VIEW.format(text="r.text", more=""))
    op.execute("ALTER TABLE replies DROP COLUMN draft, DROP COLUMN changed")
