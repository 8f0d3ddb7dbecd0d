"""The proof of an erasure, and the marks of texts that retention has removed.

Phase: expand.
Locks: ACCESS EXCLUSIVE on turns and messages, briefly: no column is filled in. SHARE on turns,
messages and dead_letters while an index is built. The indexes of messages and dead_letters hold few
rows. That of turns reads the table, some seconds for each million rows, and no turn can be settled
during that time: no earlier release exists whose tables could be large.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ERASURES = """
CREATE TABLE erasures (
    id bigint GENERATED ALWAYS AS IDENTITY,
    channel_user_id bigint NOT NULL,
    requested_at timestamptz DEFAULT service_now() NOT NULL,
    finished_at timestamptz,
    removed jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT pk_erasures PRIMARY KEY (id)
);
CREATE UNIQUE INDEX uq_erasures_unfinished
    ON erasures (channel_user_id) WHERE finished_at IS NULL;
"""
PASSES = """
CREATE TABLE retention_passes (
    id bigint NOT NULL,
    began_at timestamptz NOT NULL,
    CONSTRAINT pk_retention_passes PRIMARY KEY (id)
);
"""
COLUMNS = """
ALTER TABLE turns ADD COLUMN redacted_at timestamptz;
ALTER TABLE messages ADD COLUMN redacted_at timestamptz;
"""
# For retention: only rows that still hold texts. For erasing: foreign keys are checked row by row.
INDEXES = """
CREATE INDEX ix_turns_unredacted ON turns (finished_at, id)
    WHERE finished_at IS NOT NULL AND redacted_at IS NULL;
CREATE INDEX ix_messages_unredacted ON messages (finished_at, id)
    WHERE turn_id IS NULL AND finished_at IS NOT NULL AND redacted_at IS NULL;
CREATE INDEX ix_dead_letters_message_row_id
    ON dead_letters (message_row_id) WHERE message_row_id IS NOT NULL;
CREATE INDEX ix_dead_letters_delivery_id
    ON dead_letters (delivery_id) WHERE delivery_id IS NOT NULL;
"""


def upgrade() -> None:
    """Add the columns and indexes of both."""
    op.execute(ERASURES)
    op.execute(PASSES)
    op.execute(COLUMNS)
    op.execute(INDEXES)


def downgrade() -> None:
    """Remove them; removed texts stay removed, and the proof of erasures is lost."""
    op.execute("DROP INDEX ix_dead_letters_delivery_id, ix_dead_letters_message_row_id")
    op.execute("ALTER TABLE messages DROP COLUMN redacted_at")
    op.execute("ALTER TABLE turns DROP COLUMN redacted_at")
    op.drop_table("retention_passes")
    op.drop_table("erasures")
