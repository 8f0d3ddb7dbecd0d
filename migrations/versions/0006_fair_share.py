"""Whose share of the slots a channel user's next turn counts to, and who is due of each agent.

Phase: expand.
Locks: ACCESS EXCLUSIVE on channel_users, for a moment: the new column has a constant default. The
index is built concurrently, under SHARE UPDATE EXCLUSIVE: nobody who reads or writes waits. It
waits itself for older transactions, however long those take. Each step may be run again.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both; who waits already counts to an agent without a name until his next message."""
    op.execute("ALTER TABLE channel_users ADD COLUMN IF NOT EXISTS agent text NOT NULL DEFAULT ''")
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        # One that was left half built looks as if it were there.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_channel_users_agent_due_at")
        op.execute(
            "CREATE INDEX CONCURRENTLY ix_channel_users_agent_due_at"
            " ON channel_users (agent, due_at) WHERE due_at IS NOT NULL"
        )
        op.execute("SET lock_timeout = '5s'")


def downgrade() -> None:
    """Take them out; the index goes with its column."""
    op.execute("ALTER TABLE channel_users DROP COLUMN agent")
