"""An index of `deliveries.repeats`: without it, each deleted delivery scanned the table for it.

Phase: expand.
Locks: none that a reader or writer waits for: the index is built concurrently.
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""
    with op.get_context().autocommit_block():
        # An index whose build was interrupted exists too, and is invalid.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_deliveries_repeats")
        op.execute(
            "CREATE INDEX CONCURRENTLY ix_deliveries_repeats ON deliveries (repeats)"
            " WHERE repeats IS NOT NULL"
        )


def downgrade() -> None:
    """Remove it."""
    op.execute("DROP INDEX ix_deliveries_repeats")
