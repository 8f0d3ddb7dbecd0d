"""Disclosures: who was told when, and in which words, that an AI writes to them.

Phase: expand.
Locks: SHARE ROW EXCLUSIVE on channel_users, conversations and deliveries for the foreign keys of
the new table, briefly: it is empty. May be run again.
"""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.execute("""
        CREATE TABLE IF NOT EXISTS disclosures (
            id bigint GENERATED ALWAYS AS IDENTITY,
            channel_user_id bigint NOT NULL,
            conversation_id bigint,
            delivery_id bigint NOT NULL,
            language text NOT NULL,
            text text NOT NULL,
            created_at timestamptz DEFAULT service_now() NOT NULL,
            CONSTRAINT pk_disclosures PRIMARY KEY (id),
            CONSTRAINT uq_disclosures_delivery_id UNIQUE (delivery_id),
            CONSTRAINT fk_disclosures_channel_user_id
                FOREIGN KEY (channel_user_id) REFERENCES channel_users (id),
            CONSTRAINT fk_disclosures_conversation_id
                FOREIGN KEY (conversation_id) REFERENCES conversations (id),
            CONSTRAINT fk_disclosures_delivery_id FOREIGN KEY (delivery_id)
                REFERENCES deliveries (id)
        )
    """)
    op.execute(
        "CREATE INDEX IF NOT EXISTS ix_disclosures_channel_user_id ON disclosures (channel_user_id)"
    )


def downgrade() -> None:
    """Remove it, and with it who was told: export it before."""
    op.execute("DROP TABLE disclosures")
