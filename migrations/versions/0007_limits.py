"""The counters of agents' budgets and of the rate of calls.

Phase: expand.
Locks: none on existing tables.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BUDGET_DAYS = """
CREATE TABLE budget_days (
    agent text NOT NULL,
    part smallint NOT NULL,
    day date NOT NULL,
    messages bigint DEFAULT 0 NOT NULL,
    tokens bigint DEFAULT 0 NOT NULL,
    CONSTRAINT pk_budget_days PRIMARY KEY (agent, part)
);
"""
# Unlogged: its row is worthless after a second, and its commits need not wait for the disk.
RATES = """
CREATE UNLOGGED TABLE rates (
    name text NOT NULL,
    free_at timestamptz NOT NULL,
    CONSTRAINT pk_rates PRIMARY KEY (name)
);
"""


def upgrade() -> None:
    """Add both tables."""
    op.execute(BUDGET_DAYS)
    op.execute(RATES)


def downgrade() -> None:
    """Remove both tables; today's usage is lost."""
    op.drop_table("rates")
    op.drop_table("budget_days")
