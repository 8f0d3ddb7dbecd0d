"""Tables of limits that all workers share: budget_days, rates."""

from datetime import date

from sqlalchemy import Date, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from worker.store.schema.base import At, Base, Count, Str


class BudgetDay(Base):
    """Use of an agent's budget on the latest day: the sum of the agent's parts."""

    __tablename__ = "budget_days"

    agent: Mapped[Str] = mapped_column(primary_key=True)
    part: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    """A share of the users: with one row, all transactions would wait for its lock."""
    day: Mapped[date] = mapped_column(Date)
    """In UTC."""
    messages: Mapped[Count]
    tokens: Mapped[Count]


class Rate(Base):
    """When the next call of any worker may start. Unlogged: a crash empties it, which is fine."""

    __tablename__ = "rates"
    # UNLOGGED: each call updates the row, and its value is worthless after a crash.
    __table_args__ = {"prefixes": ["UNLOGGED"]}  # noqa: RUF012 - as SQLAlchemy takes it

    name: Mapped[Str] = mapped_column(primary_key=True)
    free_at: Mapped[At]
