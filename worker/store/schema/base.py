"""Shared by all tables: names of constraints, and each column type once."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Identity, MetaData, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

NOW = text("service_now()")
"""All SQL time comes from this one function, which the tests replace."""


class Base(DeclarativeBase):
    """Root of the mapped classes."""

    # Migrations refer to constraints by name. Without a convention Postgres would choose the names,
    # and a downgrade would have to guess them.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


BigIntKey = Annotated[int, mapped_column(BigInteger, Identity(always=True), primary_key=True)]
BigInt = Annotated[int, mapped_column(BigInteger)]
UuidKey = Annotated[UUID, mapped_column(Uuid, primary_key=True)]
AnyUuid = Annotated[UUID, mapped_column(Uuid)]
RandomUuid = Annotated[UUID, mapped_column(Uuid, server_default=text("gen_random_uuid()"))]
Str = Annotated[str, mapped_column(Text)]
Json = Annotated[dict[str, Any], mapped_column(JSONB)]
At = Annotated[datetime, mapped_column(DateTime(timezone=True))]
"""An instant, aware, in UTC."""
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=NOW)]
Count = Annotated[int, mapped_column(BigInteger, server_default=text("0"))]


def one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    """Build the check that `column` holds one of `values`; named after the column."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)
