"""The sender of a message and of a dead letter: the Celery task, and headers of the producer.

A message has only the id of its task, which `worker why` looks for in the whole table: an index on
random ids would cost every message.

Phase: expand.
Locks: ACCESS EXCLUSIVE on messages, inbox and dead_letters, briefly: no column is filled in.
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; NULL in existing rows, and in those of workers of the version before."""
    op.execute("ALTER TABLE messages ADD COLUMN task_id uuid")
    op.execute("ALTER TABLE inbox ADD COLUMN task_id uuid")
    op.execute("ALTER TABLE dead_letters ADD COLUMN task_id uuid, ADD COLUMN sender jsonb")


def downgrade() -> None:
    """Remove them."""
    op.execute("ALTER TABLE dead_letters DROP COLUMN sender, DROP COLUMN task_id")
    op.execute("ALTER TABLE inbox DROP COLUMN task_id")
    op.execute("ALTER TABLE messages DROP COLUMN task_id")
