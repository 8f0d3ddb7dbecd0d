"""The ids of tool calls as the model wrote them, where they cannot be keys.

Phase: expand.
Locks: ACCESS EXCLUSIVE on tool_calls, briefly: no column is filled in.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; NULL = `call_id` is the model's own id."""
    op.execute("ALTER TABLE tool_calls ADD COLUMN given_ids text[]")


def downgrade() -> None:
    """Remove it; Telnyx may then refuse outputs that wait for such calls: their ids are ours."""
    op.execute("ALTER TABLE tool_calls DROP COLUMN given_ids")
