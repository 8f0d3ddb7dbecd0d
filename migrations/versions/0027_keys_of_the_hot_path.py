"""Five foreign keys that every turn paid for go, and an index for workers of a version before.

A foreign key locks the row that it refers to. Other checks prove more than these five did: see
decision 56. Workers of the version before run beside it: they only lose a check.

Phase: contract.
Locks: ACCESS EXCLUSIVE on channel_users, workers, conversations, turns, calls and deliveries,
briefly: no row is read. channel_users comes first, as in the transactions of the service; a
delivery that is claimed at that instant may end one of the two with a deadlock, and both can be
tried again. The downgrade builds the index concurrently, and adds the keys without a check, under
SHARE ROW EXCLUSIVE; then it reads the tables under SHARE UPDATE EXCLUSIVE, so nobody waits. Each of
its steps may be run again.
"""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_KEYS = {
    "fk_channel_users_lease_owner": "workers (id) ON DELETE SET NULL",
    "fk_turns_conversation_id": "conversations (id)",
    "fk_calls_channel_user_id": "channel_users (id)",
    "fk_calls_conversation_id": "conversations (id)",
    "fk_deliveries_channel_user_id": "channel_users (id)",
}
_TABLES = {
    "channel_users": ["lease_owner"],
    "turns": ["conversation_id"],
    "calls": ["channel_user_id", "conversation_id"],
    "deliveries": ["channel_user_id"],
}


def upgrade() -> None:
    """Drop them."""
    op.execute(
        "LOCK TABLE channel_users, workers, conversations, turns, calls, deliveries"
        " IN ACCESS EXCLUSIVE MODE"
    )
    for table, columns in _TABLES.items():
        for column in columns:
            op.execute(f"ALTER TABLE {table} DROP CONSTRAINT fk_{table}_{column}")
    op.execute("DROP INDEX ix_channel_users_agent_due_at")


def downgrade() -> None:
    """Add them again; a lease of a worker whose row is gone has ended."""
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_channel_users_agent_due_at")
        op.execute(
            "CREATE INDEX CONCURRENTLY ix_channel_users_agent_due_at"
            " ON channel_users (agent, due_at) WHERE due_at IS NOT NULL"
        )
        for table, columns in _TABLES.items():
            for column in columns:
                name = f"fk_{table}_{column}"
                op.execute(
                    f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}, ADD CONSTRAINT {name}"
                    f" FOREIGN KEY ({column}) REFERENCES {_KEYS[name]} NOT VALID"
                )
        # Only now: from here on no worker's row goes without its leases.
        op.execute("""
            UPDATE channel_users u SET lease_owner = NULL WHERE lease_owner IS NOT NULL
              AND NOT EXISTS (SELECT FROM workers w WHERE w.id = u.lease_owner)
        """)
        for table, columns in _TABLES.items():
            for column in columns:
                op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT fk_{table}_{column}")
