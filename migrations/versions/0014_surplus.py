"""Which users are surplus, because enough turns of their sender are due, and the indexes for it.

Workers of the version before take due users without looking at it, by the index that stays for
them; a later migration drops that one.

Phase: expand.
Locks: ACCESS EXCLUSIVE on channel_users, briefly: the new columns are NULL or have a constant
default. The indexes are built concurrently, under SHARE UPDATE EXCLUSIVE: no reader or writer
waits. The build itself waits for older transactions, without limit. Each step may be run again.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_channel_users_agent_surplus_due_at": "(agent, surplus, due_at) WHERE due_at IS NOT NULL",
    "ix_channel_users_address_group_address": (
        "(address_group, address) WHERE due_at IS NOT NULL AND diverged_at IS NULL AND NOT surplus"
    ),
}


def upgrade() -> None:
    """Add all; nobody is surplus before their next message."""
    op.execute(
        "ALTER TABLE channel_users ADD COLUMN IF NOT EXISTS address_group bigint,"
        " ADD COLUMN IF NOT EXISTS surplus boolean NOT NULL DEFAULT false"
    )
    with op.get_context().autocommit_block():
        for name, rows in _INDEXES.items():
            # An index whose build was interrupted exists too, and is invalid.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON channel_users {rows}")


def downgrade() -> None:
    """Remove all; the indexes go with their columns."""
    op.execute("ALTER TABLE channel_users DROP COLUMN surplus, DROP COLUMN address_group")
