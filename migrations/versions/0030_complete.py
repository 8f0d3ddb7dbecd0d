"""Whether every conversation at Telnyx is in the table, and which run of Postgres knows it.

Phase: expand.
Locks: ACCESS EXCLUSIVE on cluster, of one row, briefly. May be run again.
"""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and the function that tells one run of Postgres from another."""
    op.execute("""
        ALTER TABLE cluster ADD COLUMN IF NOT EXISTS complete_on text,
            ADD COLUMN IF NOT EXISTS complete_at timestamptz,
            ADD COLUMN IF NOT EXISTS asked_at timestamptz
    """)
    # The start of the server is in it, because a snapshot of the disk has the same identifier and
    # timeline. The oids are new in a database that was restored by pg_restore. Volatile, or the
    # planner would call it for statements that do not need it.
    op.execute("""
        CREATE OR REPLACE FUNCTION postgres_run() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
        BEGIN
            RETURN concat_ws(' ', (SELECT system_identifier FROM pg_control_system()),
                left(pg_walfile_name(pg_current_wal_lsn()), 8),
                extract(epoch FROM pg_postmaster_start_time()),
                (SELECT oid FROM pg_database WHERE datname = current_database()),
                CAST(CAST('cluster' AS regclass) AS oid));
        EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN
            RETURN NULL;
        END $$
    """)
    op.execute("""
        COMMENT ON FUNCTION postgres_run() IS
            'Changes when Postgres may have lost commits; NULL where it hides what it is.'
    """)


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP FUNCTION postgres_run()")
    op.execute("""
        ALTER TABLE cluster DROP COLUMN complete_on, DROP COLUMN complete_at, DROP COLUMN asked_at
    """)
