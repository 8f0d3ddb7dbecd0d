"""Messages that wait in the inbox for their `not_before`.

Phase: expand. While workers of the version before are still running, they accept such a message at
once: it is answered too early, and nothing is lost.
Locks: ACCESS EXCLUSIVE on inbox, briefly for the columns, and SHARE while its index is built: rows
leave the inbox within a second, so it is nearly empty.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both columns, and the index in whose order the inbox is drained."""
    op.execute(
        "ALTER TABLE inbox ADD COLUMN not_before timestamptz, ADD COLUMN expires_at timestamptz"
    )
    op.execute("CREATE INDEX ix_inbox_due ON inbox (coalesce(not_before, '-infinity'), id)")


def downgrade() -> None:
    """Remove them; what waits is accepted at once then."""
    op.execute("ALTER TABLE inbox DROP COLUMN not_before, DROP COLUMN expires_at")
