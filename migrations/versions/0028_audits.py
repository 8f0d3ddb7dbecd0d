"""Audits: who has looked at what in `worker console`, and has done what.

`secrets` gets the key of its sessions. `ix_channel_users_paused_at` is for the list of people who
are paused: few of many.

Phase: expand.
Locks: none that anybody waits for: the table is new, the index is built concurrently. Each step may
be run again.
"""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

KEY = """
INSERT INTO secrets (name, value)
VALUES ('console', uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
ON CONFLICT DO NOTHING
"""
AUDITS = """
CREATE TABLE IF NOT EXISTS audits (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz DEFAULT service_now() NOT NULL,
    who text NOT NULL,
    action text NOT NULL,
    channel_user_id bigint,
    subject_id bigint,
    CONSTRAINT pk_audits PRIMARY KEY (id)
)
"""
INDEXES = {
    "ix_audits_channel_user_id": "audits (channel_user_id, id) WHERE channel_user_id IS NOT NULL",
    "ix_audits_logouts": "audits (who, id) WHERE action = 'logout'",
}
PAUSED = "ix_channel_users_paused_at"


def upgrade() -> None:
    """Add all."""
    op.execute(KEY)
    op.execute(AUDITS)
    for name, rows in INDEXES.items():
        op.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {rows}")
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {PAUSED}")  # one that was interrupted
        op.execute(
            f"CREATE INDEX CONCURRENTLY {PAUSED} ON channel_users (paused_at)"
            " WHERE paused_at IS NOT NULL"
        )


def downgrade() -> None:
    """Remove all: nobody knows any more who has looked at what."""
    op.execute(f"DROP INDEX {PAUSED}")
    op.execute("DROP TABLE audits")
    op.execute("DELETE FROM secrets WHERE name = 'console'")
