"""What the service knows of its Postgres, and a clock that goes on while a statement waits.

Phase: expand.
Locks: ACCESS EXCLUSIVE on conversations, without a rewrite, briefly. May be run again.
"""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, still without its row, the time of a comparison, and the running clock."""
    op.execute("""
        CREATE OR REPLACE FUNCTION service_clock() RETURNS timestamptz LANGUAGE sql VOLATILE
            PARALLEL SAFE AS 'SELECT clock_timestamp()'
    """)
    op.execute("""
        COMMENT ON FUNCTION service_clock() IS
            'Like service_now(), but the time goes on within a statement; tests replace it.'
    """)
    op.execute("""
        CREATE TABLE IF NOT EXISTS cluster (
            one boolean DEFAULT true NOT NULL,
            identity text,
            replaced_at timestamptz,
            jumped_at timestamptz,
            CONSTRAINT pk_cluster PRIMARY KEY (one),
            CONSTRAINT ck_cluster_one CHECK (one)
        )
    """)
    op.execute("ALTER TABLE conversations ADD COLUMN IF NOT EXISTS compared_at timestamptz")


def downgrade() -> None:
    """Remove them."""
    op.execute("ALTER TABLE conversations DROP COLUMN compared_at")
    op.execute("DROP TABLE cluster")
    op.execute("DROP FUNCTION service_clock()")
