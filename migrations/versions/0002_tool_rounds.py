"""Tool calls by round, their outputs in the thread, and the lease that started them.

A model may use a call id again in a later round of the same turn.

Phase: expand.
Locks: ACCESS EXCLUSIVE on tool_calls and conversations, briefly: no column is filled in.
tool_calls has no rows before this release, so checking its new constraint is immediate.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns of tool rounds."""
    op.execute("""
        ALTER TABLE tool_calls
            ADD COLUMN token bigint DEFAULT 0 NOT NULL,
            ADD COLUMN answered_at timestamptz,
            DROP CONSTRAINT uq_tool_calls_turn_id_call_id,
            ADD CONSTRAINT uq_tool_calls_turn_id_round_call_id UNIQUE (turn_id, round, call_id)
    """)
    op.execute("ALTER TABLE conversations ADD COLUMN owes_outputs boolean DEFAULT false NOT NULL")


def downgrade() -> None:
    """Remove them; call ids that were used in two rounds of a turn are kept for the first only."""
    op.execute("ALTER TABLE conversations DROP COLUMN owes_outputs")
    op.execute("""
        DELETE FROM tool_calls later USING tool_calls first
        WHERE first.turn_id = later.turn_id AND first.call_id = later.call_id
          AND first.round < later.round
    """)
    op.execute("""
        ALTER TABLE tool_calls
            DROP COLUMN token,
            DROP COLUMN answered_at,
            DROP CONSTRAINT uq_tool_calls_turn_id_round_call_id,
            ADD CONSTRAINT uq_tool_calls_turn_id_call_id UNIQUE (turn_id, call_id)
    """)
