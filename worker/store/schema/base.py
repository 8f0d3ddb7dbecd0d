"""Shared by all tables: names of constraints, and each column type once."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Identity,
    Index,
    MetaData,
    Text,
    TextClause,
    false,
    text,
)
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
    # Postgres's own defaults would be varchar, integer, json, and times without a zone.
    type_annotation_map = {  # noqa: RUF012 - as SQLAlchemy takes it
        str: Text,
        int: BigInteger,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
    }


BigIntKey = Annotated[int, mapped_column(Identity(always=True), primary_key=True)]
RandomUuid = Annotated[UUID, mapped_column(server_default=text("gen_random_uuid()"))]
Facts = Annotated[dict[str, Any], mapped_column(server_default=text("'{}'::jsonb"))]
CreatedAt = Annotated[datetime, mapped_column(server_default=NOW)]
Flag = Annotated[bool, mapped_column(server_default=false())]
Count = Annotated[int, mapped_column(server_default=text("0"))]


def one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    """Build the check that `column` holds one of `values`; named after the column."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def partial(name: str, *columns: str | TextClause, when: str) -> Index:
    """Build an index of the rows that `when` selects; it is unique if its name begins with `uq`."""
    return Index(name, *columns, unique=name.startswith("uq_"), postgresql_where=text(when))


def gateway_id(table: str) -> Index:
    """Build the index of a table's ids that the gateway gave: UUIDs of version 5."""
    return partial(
        f"ix_{table}_task_id", "task_id", when="get_byte(uuid_send(task_id), 6) >> 4 = 5"
    )
