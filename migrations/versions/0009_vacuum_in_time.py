"""Vacuum by the number of dead rows, not by their share of a table that only grows.

Each message leaves a few: its own row, its turn's and its call's are updated once, soon after their
insertion. By Postgres's defaults a fifth of a table may be dead before it is vacuumed. In these
tables all dead rows are at the end, so a vacuum is fast at any size: it skips the pages that it has
visited, and the indexes if few pages have dead rows (PostgreSQL 14 and newer). The rows of channel
users are updated anywhere in the table, so there the limit remains a share, a smaller one.

Phase: expand.
Locks: SHARE UPDATE EXCLUSIVE on each table, briefly; no reader or writer waits.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

GROWING = ("messages", "turns", "calls", "deliveries")


def upgrade() -> None:
    """Set the thresholds; autovacuum reads them at its next round."""
    for table in GROWING:
        op.execute(
            f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0,"
            " autovacuum_vacuum_threshold = 5000)"
        )
    op.execute("ALTER TABLE channel_users SET (autovacuum_vacuum_scale_factor = 0.02)")


def downgrade() -> None:
    """Return to the server's settings."""
    for table in GROWING:
        op.execute(
            f"ALTER TABLE {table} RESET (autovacuum_vacuum_scale_factor,"
            " autovacuum_vacuum_threshold)"
        )
    op.execute("ALTER TABLE channel_users RESET (autovacuum_vacuum_scale_factor)")
