"""Whose share of the slots a channel user's next turn counts to, and who is due of each agent.

Phase: expand.
Locks: ACCESS EXCLUSIVE on channel_users, for a moment: the new column has a constant default. SHARE
on it while the index is built: that reads the table, a second or two for each million rows, and
nothing is accepted meanwhile. The index itself holds only those with something to do.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both; who waits already counts to an agent without a name until his next message."""
    op.execute("ALTER TABLE channel_users ADD COLUMN agent text NOT NULL DEFAULT ''")
    op.execute(
        "CREATE INDEX ix_channel_users_agent_due_at ON channel_users (agent, due_at)"
        " WHERE due_at IS NOT NULL"
    )


def downgrade() -> None:
    """Take them out; the index goes with its column."""
    op.execute("ALTER TABLE channel_users DROP COLUMN agent")
