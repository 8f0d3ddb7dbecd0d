"""Six foreign keys are checked only where rows are deleted.

Each message paid for a query and a lock of each key, as it inserted rows of one turn, whose parents
the same transaction had written or locked. Triggers now refuse what would leave rows without their
parent, see decision 68. Workers of the release before run beside it: they only lose a check.

Phase: contract.
Locks: ACCESS EXCLUSIVE on channel_users, turns, messages, calls, replies and deliveries, briefly:
no row is read. channel_users comes first, as in the transactions of the service; a delivery that is
claimed at that instant may end one of the two with a deadlock, and both can be tried again. The
downgrade adds the keys without a check, under SHARE ROW EXCLUSIVE; then it reads the tables under
SHARE UPDATE EXCLUSIVE, so nobody waits. Each of its steps may be run again.
"""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

_KEYS = {
    "channel_users": [("turns", "channel_user_id"), ("messages", "channel_user_id")],
    "turns": [("messages", "turn_id"), ("calls", "turn_id"), ("replies", "turn_id")],
    "replies": [("deliveries", "reply_id")],
}
# LATERAL with a LIMIT is a probe of an index for each deleted row, whatever Postgres believes of
# the tables: a key's own query for each of them is one, too.
_REFUSE = """
CREATE FUNCTION refuse_orphans() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    child text;
    found_one boolean;
BEGIN
    FOREACH child IN ARRAY TG_ARGV LOOP
        EXECUTE format(
            'SELECT EXISTS (SELECT FROM deleted CROSS JOIN LATERAL'
            ' (SELECT FROM %I.%I WHERE %3$I = deleted.id LIMIT 1) AS orphan)',
            TG_TABLE_SCHEMA, split_part(child, '.', 1), split_part(child, '.', 2)
        ) INTO found_one;
        IF found_one THEN
            RAISE foreign_key_violation USING MESSAGE = format(
                '%s still refers to a row of %s that is being deleted', child, TG_TABLE_NAME);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION refuse_orphans() IS 'Of columns TABLE.COLUMN: refuses what leaves orphans.';
"""


def upgrade() -> None:
    """Exchange the keys for triggers."""
    op.execute(
        "LOCK TABLE channel_users, turns, messages, calls, replies, deliveries"
        " IN ACCESS EXCLUSIVE MODE"
    )
    op.execute(_REFUSE)
    for parent, children in _KEYS.items():
        for table, column in children:
            op.execute(f"ALTER TABLE {table} DROP CONSTRAINT fk_{table}_{column}")
        named = ", ".join(f"'{table}.{column}'" for table, column in children)
        op.execute(
            f"CREATE TRIGGER no_orphans AFTER DELETE ON {parent} REFERENCING OLD TABLE AS deleted"
            f" FOR EACH STATEMENT EXECUTE FUNCTION refuse_orphans({named})"
        )


def downgrade() -> None:
    """Add the keys again."""
    with op.get_context().autocommit_block():
        for parent, children in _KEYS.items():
            for table, column in children:
                name = f"fk_{table}_{column}"
                op.execute(
                    f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}, ADD CONSTRAINT {name}"
                    f" FOREIGN KEY ({column}) REFERENCES {parent} (id) NOT VALID"
                )
                op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")
    for parent in _KEYS:
        op.execute(f"DROP TRIGGER no_orphans ON {parent}")
    op.execute("DROP FUNCTION refuse_orphans()")
