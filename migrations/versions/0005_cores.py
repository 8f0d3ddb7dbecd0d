"""Which core of which machine a worker process stays on.

Phase: expand.
Locks: ACCESS EXCLUSIVE on workers, for a moment: no column is filled in, and it has a few rows.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add where a process stays; None in the rows of those that were there before."""
    op.execute("ALTER TABLE workers ADD COLUMN machine uuid, ADD COLUMN core bigint")


def downgrade() -> None:
    """Take it out."""
    op.execute("ALTER TABLE workers DROP COLUMN core, DROP COLUMN machine")
