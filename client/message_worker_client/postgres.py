"""Connects to Postgres: one reading of an address for all programs, and the session they rely on.

libpq reads the address. What it says wins over our defaults, except for the settings without which
the stores would misread values or commit in another way (`RELIED_ON`).
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row

BEGIN: Final = b"BEGIN"
RELIED_ON: Final[Mapping[str, str]] = {
    "client_encoding": "UTF8",
    # The driver reads no other style of dates and intervals.
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "standard_conforming_strings": "on",
    # A statement that waited for a row's lock must see the row as it is then.
    "default_transaction_isolation": "read committed",
}
_DEFAULTS: Final[Mapping[str, str]] = {
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    # A pooled connection and the listener may be idle for long.
    "idle_session_timeout": "0",
}
_NAMES: Final = (*RELIED_ON, "extra_float_digits", "synchronous_commit")
_IN_FORCE: Final = "SELECT " + ", ".join(f"current_setting('{name}')" for name in _NAMES)
_SOURCES: Final = (
    b"SELECT lower(name), setting, source FROM pg_settings WHERE lower(name) = ANY($1)"
)
_FOREIGN: Final = {
    "schema": "give ?options=-csearch_path%3DNAME",
    "currentSchema": "give ?options=-csearch_path%3DNAME",
    "search_path": "give ?options=-csearch_path%3DNAME",
    "pgbouncer": "leave it out: a pooler needs no parameter",
    "connection_limit": "leave it out, and set DATABASE_POOL_SIZE",
    "pool_size": "leave it out, and set DATABASE_POOL_SIZE",
    "max_overflow": "leave it out, and set DATABASE_POOL_SIZE",
    "pool_timeout": "leave it out",
    "socket_timeout": "leave it out",
    "statement_cache_size": "leave it out, and see DATABASE_PREPARE",
    "prepared_statements": "leave it out, and see DATABASE_PREPARE",
    "sslaccept": "give sslmode and sslrootcert",
    "charset": "leave it out: it is always UTF-8",
    "encoding": "leave it out: it is always UTF-8",
}
"""Parameters of other libraries -> the fix. Only these names are shown: the text may be secret."""
_NUMERIC: Final = (
    *("port", "connect_timeout", "tcp_user_timeout"),
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
)
_NUMBERS: Final = re.compile(r"-?\d*(,\d*)*", re.ASCII)
_UNKNOWN: Final = re.compile(r'invalid URI query parameter: "(\w+)"')


class AddressError(ValueError):
    """No address of Postgres. The text names the fault and the fix, never a part of the address."""


@dataclass(frozen=True)
class Address:
    """An address of Postgres, as libpq reads it. Raises `AddressError` if it cannot."""

    url: str = field(repr=False)

    def __post_init__(self) -> None:
        """Read it now: libpq itself would only when it connects."""
        _ = self.parameters

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """Return libpq's parameters. Also of SQLAlchemy's spelling, `postgresql+psycopg://`."""
        scheme, separator, rest = self.url.partition("://")
        known = scheme in {"postgres", "postgresql", "postgresql+psycopg"}
        refusal = ""
        try:
            found = conninfo_to_dict(f"postgresql://{rest}" if known and separator else self.url)
            # libpq itself reads numbers only when it connects. Behind an @ in a password, it takes
            # the rest for a host, and asks the name server for it; a socket may begin with one.
            numbers = all(_NUMBERS.fullmatch(str(found.get(one) or "0")) for one in _NUMERIC)
            if numbers and not any("@" in one[1:] for one in str(found.get("host")).split(",")):
                return _with_its_certificate(found)
        except AddressError:
            raise
        except (psycopg.Error, ValueError) as error:
            refusal = str(error)
        # Not inside the handler: libpq's message quotes the address, and with it the password.
        unknown = _UNKNOWN.search(refusal)
        if unknown is not None and unknown[1] in _FOREIGN:
            raise AddressError(
                f"Postgres's own library has no parameter {unknown[1]}: {_FOREIGN[unknown[1]]}"
            )
        raise AddressError(
            "give postgresql://user:password@host/database"
            " (in user and password write @ : / ? # [ ] and % as %40 %3A %2F %3F %23 %5B %5D %25;"
            " parameters are those of libpq)"
        )

    @property
    def raw_options(self) -> str:
        """Return the parameter `options`, which PGOPTIONS stands in for, as libpq has it."""
        return self.parameters.get("options") or os.environ.get("PGOPTIONS") or ""

    @cached_property
    def options(self) -> dict[str, str]:
        """Return the settings in it, without those of `RELIED_ON`."""
        words = [
            re.sub(r"\\(.)", r"\1", one) for one in re.findall(r"(?:\\.|\S)+", self.raw_options)
        ]
        found = re.findall(r"(?:^|\n)(?:-c\n?|--)([^=\n]+)=([^\n]*)", "\n".join(words))
        theirs = {name.replace("-", "_").lower(): value for name, value in found}
        return {n: v for n, v in theirs.items() if n not in {name.lower() for name in RELIED_ON}}

    def connect(
        self,
        *,
        name: str,
        settings: Mapping[str, str] | None = None,
        parameters: Mapping[str, object] | None = None,
        prepare_threshold: int | None = None,
        **arguments: Any,  # noqa: ANN401 - those of psycopg.connect
    ) -> psycopg.Connection[Any]:
        """Connect, with autocommit. Raises `psycopg.Error`.

        `name` appears in pg_stat_activity. `settings` and `parameters` are defaults of the session
        and of libpq; None for settings = none are sent, as a pooler may refuse them.
        """
        more: dict[str, Any] = {"application_name": name, "connect_timeout": 5}
        hosts = self.parameters.get("hostaddr") or self.parameters.get("host")
        if "," in (hosts or os.environ.get("PGHOST", "")):
            # Of several servers only one takes writes, and after a failover it is another one.
            more["target_session_attrs"] = "read-write"
        more |= {**(parameters or {}), **self.parameters, "client_encoding": "UTF8"}
        if settings is not None:
            # The last one wins.
            ours = _as_options({**_DEFAULTS, **settings})
            more["options"] = " ".join((ours, self.raw_options, _as_options(RELIED_ON)))
        # Not prepared by default: a transaction pooler may give each statement another session.
        arguments |= {"prepare_threshold": prepare_threshold, "autocommit": True}
        return psycopg.connect(**more, **arguments)

    def begin(self, connection: psycopg.Connection[Any]) -> bytes:
        """Return the statements that begin a transaction on this connection, see `missing`."""
        return b"; ".join((BEGIN, *self.missing(connection)))

    def missing(self, connection: psycopg.Connection[Any]) -> tuple[bytes, ...]:
        """Return what has to be set at the beginning of each transaction.

        Nothing, if all settings are in force. A pooler drops those of the startup; then each
        transaction sets them, whichever process of Postgres it gets.
        """
        asking = psycopg.RawCursor(connection, row_factory=tuple_row)
        row = asking.execute(_IN_FORCE.encode(), prepare=False).fetchone()
        found: dict[str, str] = dict(zip(_NAMES, row or (), strict=True))
        wrong = {n: v for n, v in RELIED_ON.items() if found[n].partition(",")[0] != v}
        if int(found["extra_float_digits"]) < 0:
            wrong["extra_float_digits"] = "1"
        # What was accepted must survive a crash of Postgres. An address may ask for less.
        if found["synchronous_commit"] == "off" and "synchronous_commit" not in self.options:
            wrong["synchronous_commit"] = "on"
        if self.options:
            rows = asking.execute(_SOURCES, (list(self.options),), prepare=False).fetchall()
            in_force = {name: (setting, source) for name, setting, source in rows}
            if any(_is_dropped(n, v, *in_force.get(n, ("", ""))) for n, v in self.options.items()):
                wrong = {**self.options, **wrong}
        # Not set_config: after a query the isolation level of the transaction is fixed.
        sets = [f"SET LOCAL {name} = {_literal(name, value)}" for name, value in wrong.items()]
        if "default_transaction_isolation" in wrong:
            sets.insert(0, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        return tuple(one.encode() for one in sets)


def _with_its_certificate(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return them. libpq would miss the file only when it connects."""
    file = parameters.get("sslrootcert", "system")
    verifies = str(parameters.get("sslmode")).startswith("verify")
    if verifies and file != "system" and not Path(file).is_file():
        raise AddressError("sslrootcert: there is no such file")
    return parameters


def fetch_all(
    connection: psycopg.Connection[Any], begin: bytes, query: bytes, values: Sequence[object]
) -> list[Any]:
    """Execute one statement in a transaction of its own, which begins with `begin`."""
    if begin == BEGIN:
        return connection.execute(query, values).fetchall()
    connection.execute(begin, prepare=False)
    rows = connection.execute(query, values).fetchall()
    connection.execute(b"COMMIT", prepare=False)
    return rows


def _is_dropped(name: str, value: str, setting: str, source: str) -> bool:
    # Postgres writes some values in its own way, such as a time. Of a search_path the source is not
    # enough: another program of the pool may have asked for another one.
    return setting != value and (source != "client" or name == "search_path")


def _as_options(settings: Mapping[str, str]) -> str:
    # A blank would begin the next word.
    escaped = {name: re.sub(r"([\\\s])", r"\\\1", value) for name, value in settings.items()}
    return " ".join(f"-c {name}={value}" for name, value in escaped.items())


def _literal(name: str, value: str) -> str:
    if name != "search_path":
        return "'" + value.replace("'", "''") + "'"
    # Each schema is an identifier of its own; without quotes, case does not count.
    schemas = [one.strip() for one in value.split(",")]
    return ", ".join(
        one if one.startswith('"') else '"' + one.lower().replace('"', '""') + '"'
        for one in schemas
    )
