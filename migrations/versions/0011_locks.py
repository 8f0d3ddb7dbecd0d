"""Rows to lock: what one process at a time does, such as draining the inbox.

It replaces advisory locks, which any role of the database could take and keep. While workers of the
version before are still running, they and new ones may drain the inbox at the same time: a message
is accepted once all the same, but an invalid envelope may leave two dead letters.

Phase: expand.
Locks: none on a table that is in use.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table and its rows; one that is missing is made when it is first needed."""
    op.execute("CREATE TABLE locks (name text NOT NULL, CONSTRAINT pk_locks PRIMARY KEY (name))")
    # It had `public`: with a search_path of its own, an installation put messages into another one.
    op.execute("""
DO $$ BEGIN EXECUTE format(
    'ALTER FUNCTION enqueue_message(jsonb) SET search_path = %I, pg_temp', current_schema());
END $$""")
    op.execute("INSERT INTO locks (name) VALUES ('inbox'), ('retention'), ('cores')")


def downgrade() -> None:
    """Remove it; workers of this version cannot drain the inbox without it."""
    op.execute("DROP TABLE locks")
