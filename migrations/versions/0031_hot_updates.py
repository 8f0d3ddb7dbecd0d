"""The end of a turn changes no column that an index has.

`turns` and `messages` were written to all of their indexes a second time as their turn ended. Open
turns have no unique index any more: `channel_users.open_turn_id` is one value for each user, see
decision 66. Messages that ended without a turn have a time of their own, which leaves them out of
the index of those that wait.

Workers of the release before run beside it. They find messages by other indexes of the same user;
their metrics and their retention read whole tables until they are replaced. They do not set
`messages.dropped_at`: the hourly pass of the retention does.

Phase: expand.
Locks: ACCESS EXCLUSIVE on messages and workers, briefly: the new columns are NULL or have a
constant default. SHARE UPDATE EXCLUSIVE on messages, turns and workers for the rest: indexes are
built and dropped concurrently. What has ended without a turn is updated in batches of 20,000
messages, each of them a transaction. Each step may be run again. The downgrade makes users due
whose turn the fast path has just started, under a lock of these rows.
"""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

_FILL = """
DO $$
BEGIN
    FOR step IN 0..(SELECT coalesce(max(id), 0) / 20000 FROM messages) LOOP
        UPDATE messages SET dropped_at = finished_at
        WHERE id BETWEEN step * 20000 AND step * 20000 + 19999
          AND turn_id IS NULL AND dropped_at IS NULL AND finished_at IS NOT NULL;
        COMMIT;
    END LOOP;
END $$
"""
_NEW = {
    "ix_messages_waiting": (
        "messages (channel_user_id, order_at, seq) WHERE turn_id IS NULL AND dropped_at IS NULL"
    ),
    "ix_messages_dropped": (
        "messages (dropped_at, id) WHERE dropped_at IS NOT NULL AND redacted_at IS NULL"
    ),
    "ix_turns_unredacted_since": "turns (opened_at, id) WHERE redacted_at IS NULL",
    "ix_workers_of_0_1_0": "workers (id) WHERE NOT finds_intents",
}
_OLD = {
    "ix_messages_pending": ("messages (channel_user_id, order_at, seq) WHERE state = 'pending'"),
    "ix_messages_unredacted": (
        "messages (finished_at, id)"
        " WHERE turn_id IS NULL AND finished_at IS NOT NULL AND redacted_at IS NULL"
    ),
    "ix_turns_unredacted": (
        "turns (finished_at, id) WHERE finished_at IS NOT NULL AND redacted_at IS NULL"
    ),
    "uq_turns_open": "turns (channel_user_id) WHERE state = 'open'",
}


def upgrade() -> None:
    """Add the column and fill it; exchange the indexes."""
    op.execute("ALTER TABLE messages ADD COLUMN IF NOT EXISTS dropped_at timestamptz")
    op.execute(
        "ALTER TABLE workers ADD COLUMN IF NOT EXISTS finds_intents boolean NOT NULL DEFAULT false"
    )
    for table in ("messages", "turns"):
        op.execute(f"ALTER TABLE {table} SET (fillfactor = 85)")
    with op.get_context().autocommit_block():
        op.execute(_FILL)
        _exchange(_OLD, _NEW)


def downgrade() -> None:
    """Exchange the indexes back and remove the column."""
    with op.get_context().autocommit_block():
        op.execute(
            "UPDATE channel_users SET due_at = service_now()"
            " WHERE open_turn_id IS NOT NULL AND due_at IS NULL"
        )
        _exchange(_NEW, _OLD)
    op.execute("ALTER TABLE messages DROP COLUMN dropped_at")
    op.execute("ALTER TABLE workers DROP COLUMN finds_intents")
    for table in ("messages", "turns"):
        op.execute(f"ALTER TABLE {table} RESET (fillfactor)")


def _exchange(old: dict[str, str], new: dict[str, str]) -> None:
    for name, rows in new.items():
        # An index whose build was interrupted exists too, and is invalid.
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        unique = "UNIQUE " if name.startswith("uq_") else ""
        op.execute(f"CREATE {unique}INDEX CONCURRENTLY {name} ON {rows}")
    for name in old:
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
