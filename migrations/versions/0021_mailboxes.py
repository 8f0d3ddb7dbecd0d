"""Which mails of a mailbox are too old: at its first start, and after a change of UIDVALIDITY.

Phase: expand.
Locks: ACCESS EXCLUSIVE on mailboxes, a table of a few rows, briefly. May be run again.
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; a mailbox that was read before has no mail that is too old."""
    op.execute("""
        ALTER TABLE mailboxes
        ADD COLUMN IF NOT EXISTS since timestamptz DEFAULT service_now() NOT NULL,
        ADD COLUMN IF NOT EXISTS filtered_to bigint DEFAULT 0 NOT NULL
    """)


def downgrade() -> None:
    """Remove them."""
    op.execute("ALTER TABLE mailboxes DROP COLUMN since, DROP COLUMN filtered_to")
