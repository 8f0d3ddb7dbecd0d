"""Pacing of text messages: a delivery's permit, and how many a number has sent today.

Phase: expand.
Locks: ACCESS EXCLUSIVE on deliveries and rates, briefly: no column is filled in.
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.execute("ALTER TABLE deliveries ADD COLUMN permit_at timestamptz")
    op.execute("ALTER TABLE rates ADD COLUMN day date, ADD COLUMN used integer")


def downgrade() -> None:
    """Remove them."""
    op.execute("ALTER TABLE rates DROP COLUMN used, DROP COLUMN day")
    op.execute("ALTER TABLE deliveries DROP COLUMN permit_at")
