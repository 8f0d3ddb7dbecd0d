"""A refused message has an outcome, and may be reported to its producer.

`message_outcomes` gets a row for each refused message that is not accepted since, from its dead
letter. It has to be united with the messages, so a query that joins the view with other tables
should look up each key by itself, in a LATERAL subquery with OFFSET 0. With constants it is as fast
as before.

A delivery may be the notice of a dead letter instead of a reply.

Phase: expand.
Locks: ACCESS EXCLUSIVE on dead_letters and deliveries, briefly: no column is filled in, and the
foreign key is checked against dead_letters alone, which is small.
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

MESSAGES = """
SELECT m.id AS message, u.id AS channel_user, u.channel, u.recipient, u.address AS "user",
    u.thread, m.message_id, m.state, m.outcome, m.accepted_at, m.finished_at,
    m.turn_id AS turn, r.id AS reply, r.text, r.source, r.created_at AS replied_at,
    d.state AS delivery, d.finished_at AS delivered_at{more}
FROM messages m JOIN channel_users u ON u.id = m.channel_user_id
    LEFT JOIN replies r ON r.turn_id = m.turn_id
    LEFT JOIN deliveries d ON d.reply_id = r.id
"""
MORE = ", CAST(NULL AS text) AS detail, m.task_id, CAST(NULL AS bigint) AS dead_letter"
REFUSED = """
SELECT NULL, NULL, l.names ->> 'channel', l.names ->> 'recipient', l.names ->> 'user',
    l.names ->> 'thread', l.names ->> 'message_id', 'refused', l.reason, NULL, l.created_at,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, l.detail, l.task_id, l.id
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
    "ix_dead_letters_names": "dead_letters ((names ->> 'message_id')) WHERE names IS NOT NULL",
    "uq_dead_letters_notice_id": "dead_letters (notice_id) WHERE notice_id IS NOT NULL",
}


def upgrade() -> None:
    """Add the columns, the view's rows, and two indexes."""
    op.execute(
        "ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS names jsonb,"
        " ADD COLUMN IF NOT EXISTS notice_id bigint"
        " CONSTRAINT fk_dead_letters_notice_id REFERENCES deliveries (id)"
    )
    op.execute("ALTER TABLE deliveries ALTER COLUMN reply_id DROP NOT NULL")
    more = MESSAGES.format(more=MORE)
    op.execute(f"CREATE OR REPLACE VIEW message_outcomes AS {more} UNION ALL {REFUSED}")
    with op.get_context().autocommit_block():
        # An index whose build was interrupted exists too, and is invalid.
        for name, place in INDEXES.items():
            unique = "UNIQUE" if name.startswith("uq_") else ""
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE {unique} INDEX CONCURRENTLY {name} ON {place}")


def downgrade() -> None:
    """Remove them; what was granted on the view has to be granted again."""
    op.execute("DROP VIEW message_outcomes")
    op.execute(f"CREATE VIEW message_outcomes AS {MESSAGES.format(more='')}")
    op.execute(COMMENT)
    op.execute("ALTER TABLE dead_letters DROP COLUMN notice_id, DROP COLUMN names")
    op.execute("DELETE FROM deliveries WHERE reply_id IS NULL")
    op.execute("ALTER TABLE deliveries ALTER COLUMN reply_id SET NOT NULL")
