"""After a loss of commits, ids go on far behind those that were lost.

Ids leave the database: a mail's Message-ID and the address of its bounces have that of the
delivery, keys of tools and of messages at Telnyx that of the turn, links of the console that of the
person. A restored backup would give them a second time, to other rows.

Phase: expand.
Locks: SHARE ROW EXCLUSIVE on cluster, for an instant.
"""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

_TABLES = (
    *("channel_users", "conversations", "messages", "turns", "calls", "replies", "deliveries"),
    *("inbox", "dead_letters", "mails", "hand_overs", "audits"),
)
# 250 messages a second for four days. The end of bigint is 90 thousand million losses away.
_AHEAD = 100_000_000


def upgrade() -> None:
    """Add the function and its triggers."""
    # The role of the workers may have no right on sequences, as identity columns need none.
    op.execute(f"""
        CREATE FUNCTION leave_lost_ids() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            ids regclass;
        BEGIN
            FOR ids IN SELECT pg_get_serial_sequence(format('%I.%I', TG_TABLE_SCHEMA, name), 'id')
                FROM unnest(ARRAY{list(_TABLES)}) AS tables (name)
            LOOP
                PERFORM setval(ids, nextval(ids) + {_AHEAD});
            END LOOP;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        COMMENT ON FUNCTION leave_lost_ids() IS
            'No id that was given in lost commits is given again.'
    """)
    op.execute("""
        CREATE TRIGGER lost AFTER INSERT ON cluster FOR EACH ROW
        WHEN (NEW.replaced_at IS NOT NULL) EXECUTE FUNCTION leave_lost_ids()
    """)
    op.execute("""
        CREATE TRIGGER lost_again AFTER UPDATE OF replaced_at ON cluster FOR EACH ROW
        WHEN (NEW.replaced_at IS DISTINCT FROM OLD.replaced_at AND NEW.replaced_at IS NOT NULL)
        EXECUTE FUNCTION leave_lost_ids()
    """)


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP TRIGGER lost ON cluster")
    op.execute("DROP TRIGGER lost_again ON cluster")
    op.execute("DROP FUNCTION leave_lost_ids()")
