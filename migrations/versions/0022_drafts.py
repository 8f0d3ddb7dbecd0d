"""Drafts: replies that wait for a person, and what the model is told of them.

Workers of the version before would take a draft for a reply that has ended, and send nothing of it.

Phase: expand.
Locks: ACCESS EXCLUSIVE on deliveries, replies and channel_users, briefly: no column is filled in,
and the new checks are validated under SHARE UPDATE EXCLUSIVE. The index is built concurrently: no
reader or writer waits. Each step may be run again.
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

STATES = (
    "'pending', 'sending', 'sent', 'failed', 'unknown', 'withheld', 'superseded', 'expired',"
    " 'cancelled', 'opted_out'"
)
SOURCES = "'call', 'adopted', 'fallback', 'human'"


def _check(table: str, column: str, values: str) -> None:
    """Replace a check; existing rows are read without blocking writers."""
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS ck_{table}_{column}")
    op.execute(
        f"ALTER TABLE {table} ADD CONSTRAINT ck_{table}_{column}"
        f" CHECK ({column} IN ({values})) NOT VALID"
    )


def upgrade() -> None:
    """Add all."""
    op.execute("ALTER TABLE channel_users ADD COLUMN IF NOT EXISTS note text")
    op.execute("""
        ALTER TABLE deliveries
            ADD COLUMN IF NOT EXISTS counts_from timestamptz,
            ADD COLUMN IF NOT EXISTS held_for text,
            ADD COLUMN IF NOT EXISTS reviewed_by text,
            ADD COLUMN IF NOT EXISTS reviewed_at timestamptz
    """)
    _check("deliveries", "state", f"{STATES}, 'held', 'rejected'")
    _check("replies", "source", f"{SOURCES}, 'edited', 'hand_over'")
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE deliveries VALIDATE CONSTRAINT ck_deliveries_state")
        op.execute("ALTER TABLE replies VALIDATE CONSTRAINT ck_replies_source")
        # An index whose build was interrupted exists too, and is invalid.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_deliveries_held")
        op.execute(
            "CREATE INDEX CONCURRENTLY ix_deliveries_held"
            " ON deliveries (channel_user_id) WHERE state = 'held'"
        )


def downgrade() -> None:
    """Remove all; a draft that nobody has decided about is not sent."""
    op.execute("UPDATE deliveries SET state = 'cancelled' WHERE state IN ('held', 'rejected')")
    op.execute("UPDATE replies SET source = 'human' WHERE source IN ('edited', 'hand_over')")
    op.execute("DROP INDEX ix_deliveries_held")
    _check("deliveries", "state", STATES)
    _check("replies", "source", SOURCES)
    op.execute("ALTER TABLE deliveries VALIDATE CONSTRAINT ck_deliveries_state")
    op.execute("ALTER TABLE replies VALIDATE CONSTRAINT ck_replies_source")
    op.execute(
        "ALTER TABLE deliveries DROP COLUMN counts_from, DROP COLUMN held_for,"
        " DROP COLUMN reviewed_by, DROP COLUMN reviewed_at"
    )
    op.execute("ALTER TABLE channel_users DROP COLUMN note")
