"""The core and machine of a worker process.

Phase: expand.
Locks: ACCESS EXCLUSIVE on workers, briefly: no column is filled in, and it has few rows.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both; NULL in existing rows."""
    op.execute("ALTER TABLE workers ADD COLUMN machine uuid, ADD COLUMN core bigint")


def downgrade() -> None:
    """Remove both."""
    op.execute("ALTER TABLE workers DROP COLUMN core, DROP COLUMN machine")
