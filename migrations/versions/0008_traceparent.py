"""The trace of a message: the W3C context of its acceptance.

Phase: expand.
Locks: ACCESS EXCLUSIVE on messages, briefly: no column is filled in.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; NULL without tracing."""
    op.execute("ALTER TABLE messages ADD COLUMN traceparent text")


def downgrade() -> None:
    """Remove it; work in progress continues in separate traces."""
    op.execute("ALTER TABLE messages DROP COLUMN traceparent")
