"""Which trace a message belongs to: the W3C context of its acceptance.

Phase: expand.
Locks: ACCESS EXCLUSIVE on messages, for a moment: no column is filled in.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; NULL where nobody traces."""
    op.execute("ALTER TABLE messages ADD COLUMN traceparent text")


def downgrade() -> None:
    """Take it out; what is under way goes on in traces of its own."""
    op.execute("ALTER TABLE messages DROP COLUMN traceparent")
