"""Dead rows are cleared away by their number, not by their share of a table that only grows.

Each message leaves a handful: its own row, its turn's and its call's are updated once, soon after
they came. By Postgres's defaults a fifth of a table may be dead before it is vacuumed. In these
tables they all lie at the end, so a vacuum is quick however long they are: it skips the pages that
it has seen, and the indexes where few pages have dead rows (PostgreSQL 14 and newer). The rows of
channel users are updated anywhere, so there it stays a share, a smaller one.

Phase: expand.
Locks: SHARE UPDATE EXCLUSIVE on each table, for a moment; nobody who reads or writes waits.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

GROWING = ("messages", "turns", "calls", "deliveries")


def upgrade() -> None:
    """Set them; autovacuum reads them at its next round."""
    for table in GROWING:
        op.execute(
            f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0,"
            " autovacuum_vacuum_threshold = 5000)"
        )
    op.execute("ALTER TABLE channel_users SET (autovacuum_vacuum_scale_factor = 0.02)")


def downgrade() -> None:
    """Go back to the server's settings."""
    for table in GROWING:
        op.execute(
            f"ALTER TABLE {table} RESET (autovacuum_vacuum_scale_factor,"
            " autovacuum_vacuum_threshold)"
        )
    op.execute("ALTER TABLE channel_users RESET (autovacuum_vacuum_scale_factor)")
