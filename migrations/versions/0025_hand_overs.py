"""Hand-overs: who waits for our staff, since when, and why.

Phase: expand.
Locks: SHARE ROW EXCLUSIVE on channel_users, turns and deliveries for the foreign keys of the new
table, briefly: it is empty. May be run again.
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

REASONS = "'model', 'person', 'threat', 'minor', 'refusal', 'failed_turns'"


def upgrade() -> None:
    """Add the table."""
    op.execute(f"""
        CREATE TABLE IF NOT EXISTS hand_overs (
            id bigint GENERATED ALWAYS AS IDENTITY,
            channel_user_id bigint NOT NULL,
            turn_id bigint,
            agent text NOT NULL,
            reason text NOT NULL,
            notice_id bigint,
            created_at timestamptz DEFAULT service_now() NOT NULL,
            ended_at timestamptz,
            CONSTRAINT pk_hand_overs PRIMARY KEY (id),
            CONSTRAINT fk_hand_overs_channel_user_id
                FOREIGN KEY (channel_user_id) REFERENCES channel_users (id),
            CONSTRAINT fk_hand_overs_turn_id FOREIGN KEY (turn_id) REFERENCES turns (id),
            CONSTRAINT fk_hand_overs_notice_id FOREIGN KEY (notice_id) REFERENCES deliveries (id),
            CONSTRAINT ck_hand_overs_reason CHECK (reason IN ({REASONS}))
        )
    """)
    op.execute(
        "CREATE INDEX IF NOT EXISTS ix_hand_overs_channel_user_id ON hand_overs (channel_user_id)"
    )
    op.execute(
        "CREATE UNIQUE INDEX IF NOT EXISTS uq_hand_overs_notice_id"
        " ON hand_overs (notice_id) WHERE notice_id IS NOT NULL"
    )


def downgrade() -> None:
    """Remove it; who is paused stays paused."""
    op.execute("DROP TABLE hand_overs")
