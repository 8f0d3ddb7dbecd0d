"""What an approval makes of a draft, and an index of decisions for the metrics of the last hour.

The worker that holds a reply knows its way out; who approves it may have another agents file.

Phase: expand.
Locks: ACCESS EXCLUSIVE on deliveries, briefly: no column is filled in. The index is built
concurrently: no reader or writer waits. Each step may be run again.
"""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both."""
    op.execute("ALTER TABLE deliveries ADD COLUMN IF NOT EXISTS approved_state text")
    with op.get_context().autocommit_block():
        # An index whose build was interrupted exists too, and is invalid.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_deliveries_reviewed_at")
        op.execute(
            "CREATE INDEX CONCURRENTLY ix_deliveries_reviewed_at ON deliveries (reviewed_at)"
            " WHERE reviewed_at IS NOT NULL"
        )


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP INDEX ix_deliveries_reviewed_at")
    op.execute("ALTER TABLE deliveries DROP COLUMN approved_state")
