"""Receipts: a delivery is found by its key, and `message_outcomes` shows what was reported.

`deliveries.repeats`: a message that Telnyx took and then failed to deliver may go out once more, as
a delivery of its own with another key. The view shows of a reply in several pieces the piece that
has not gone out, else the last one, and never one that was repeated.

Phase: expand.
Locks: ACCESS EXCLUSIVE on deliveries, briefly: no column is filled in, and no row refers to another
yet. The indexes are built concurrently: no reader or writer waits. Each step may be run again.
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

MESSAGES = """
SELECT m.id AS message, u.id AS channel_user, u.channel, u.recipient, u.address AS "user",
    u.thread, m.message_id, m.state, m.outcome, m.accepted_at, m.finished_at,
    m.turn_id AS turn, r.id AS reply, r.text, r.source, r.created_at AS replied_at,
    d.state AS delivery, d.finished_at AS delivered_at, CAST(NULL AS text) AS detail, m.task_id,
    CAST(NULL AS bigint) AS dead_letter{more}
FROM messages m JOIN channel_users u ON u.id = m.channel_user_id
    LEFT JOIN replies r ON r.turn_id = m.turn_id
    LEFT JOIN {deliveries}
"""
MORE = ", d.receipt, d.receipt_error, d.receipt_at"
# A reply of one piece, which most are, is one look into an index.
LAST = """LATERAL (
        SELECT p.state, p.finished_at, p.receipt, p.receipt_error, p.receipt_at
        FROM deliveries f JOIN deliveries p ON p.id = f.id OR p.part_of = f.id
        WHERE f.reply_id = r.id AND NOT EXISTS (
            SELECT FROM deliveries a WHERE a.part_of = f.id AND a.repeats = p.id)
        ORDER BY p.state = 'sent', p.state = 'cancelled', p.id DESC LIMIT 1) d ON true"""
REFUSED = """
SELECT NULL, NULL, l.names ->> 'channel', l.names ->> 'recipient', l.names ->> 'user',
    l.names ->> 'thread', l.names ->> 'message_id', 'refused', l.reason, NULL, l.created_at,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, l.detail, l.task_id, l.id{more}
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
COMMENT = "COMMENT ON VIEW message_outcomes IS 'What became of each message; one row each.'"
INDEXES = {
    "uq_deliveries_request_key": "deliveries (idempotency_key) WHERE request IS NOT NULL",
    "ix_deliveries_provider_id": "deliveries (provider_id)"
    " WHERE request IS NOT NULL AND provider_id IS NOT NULL",
}


def upgrade() -> None:
    """Add all."""
    op.execute(
        "ALTER TABLE deliveries ADD COLUMN IF NOT EXISTS repeats bigint"
        " CONSTRAINT fk_deliveries_repeats REFERENCES deliveries (id)"
    )
    messages = MESSAGES.format(more=MORE, deliveries=LAST)
    refused = REFUSED.format(more=", NULL, NULL, NULL")
    op.execute(f"CREATE OR REPLACE VIEW message_outcomes AS {messages} UNION ALL {refused}")
    with op.get_context().autocommit_block():
        for name, rows in INDEXES.items():
            unique = "UNIQUE" if name.startswith("uq_") else ""
            # An index whose build was interrupted exists too, and is invalid.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE {unique} INDEX CONCURRENTLY {name} ON {rows}")


def downgrade() -> None:
    """Remove them; what was granted on the view has to be granted again."""
    op.execute("DROP VIEW message_outcomes")
    messages = MESSAGES.format(more="", deliveries="deliveries d ON d.reply_id = r.id")
    op.execute(f"CREATE VIEW message_outcomes AS {messages} UNION ALL {REFUSED.format(more='')}")
    op.execute(COMMENT)
    op.execute("DROP INDEX uq_deliveries_request_key, ix_deliveries_provider_id")
    op.execute("ALTER TABLE deliveries DROP COLUMN repeats")
