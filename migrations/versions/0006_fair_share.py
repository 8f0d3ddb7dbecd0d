"""The agent whose share of the slots a user's next turn uses, and an index of due users by agent.

Phase: expand.
Locks: ACCESS EXCLUSIVE on channel_users, briefly: the new column has a constant default. The index
is built concurrently, under SHARE UPDATE EXCLUSIVE: no reader or writer waits. The build itself
waits for older transactions, without limit. Each step may be run again.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both; users who wait already count for an unnamed agent until their next message."""
    op.execute("ALTER TABLE channel_users ADD COLUMN IF NOT EXISTS agent text NOT NULL DEFAULT ''")
    with op.get_context().autocommit_block():
        # An index whose build was interrupted exists too, and is invalid.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_channel_users_agent_due_at")
        op.execute(
            "CREATE INDEX CONCURRENTLY ix_channel_users_agent_due_at"
            " ON channel_users (agent, due_at) WHERE due_at IS NOT NULL"
        )


def downgrade() -> None:
    """Remove both; the index goes with its column."""
    op.execute("ALTER TABLE channel_users DROP COLUMN agent")
