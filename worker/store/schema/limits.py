"""What is shared to keep within limits: budget_days, rates."""

from datetime import date

from sqlalchemy import Date, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from worker.store.schema.base import At, Base, Count, Str


class BudgetDay(Base):
    """What all users of an agent with a budget used on the latest day; the sum of its parts."""

    __tablename__ = "budget_days"

    agent: Mapped[Str] = mapped_column(primary_key=True)
    part: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    """Which share of the users, so that they do not all wait for one row."""
    day: Mapped[date] = mapped_column(Date)
    """Of UTC."""
    messages: Mapped[Count]
    tokens: Mapped[Count]


class Rate(Base):
    """When the next call may go, of all workers; empty after a crash of Postgres, which is fine."""

    __tablename__ = "rates"
    __table_args__ = {"prefixes": ["UNLOGGED"]}  # noqa: RUF012 - as SQLAlchemy takes it

    name: Mapped[Str] = mapped_column(primary_key=True)
    free_at: Mapped[At]
