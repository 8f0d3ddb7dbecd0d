"""Whose fault an error of Postgres is: the one table, by SQLSTATE.

What it lists is the fault of the server, of the way there, of rights or of tables: the same
statement with the same values succeeds once that is over. So work waits, and no message becomes a
dead letter. Anything else is the fault of the statement or of its values, and would fail again.
"""

from typing import Final

import psycopg

_AWAY: Final = {
    "08": "the connection was lost",
    "0A000": "a prepared statement no longer fits tables that a migration has changed",
    "25006": "it takes no writes: a standby, or read-only for the time being",
    "25P03": "it ended a session that slept in a transaction",
    "25P04": "it ended a transaction that took too long",
    "26000": "a pooler gave the session to others: it lacks a prepared statement",
    "28": "it refuses the user or the password",
    "3D000": "there is no such database, as while it is restored",
    "3F000": "there is no such schema, as while it is restored",
    "40": "two transactions were in each other's way",
    "42501": "a right is missing",
    "42703": "a column is missing: tables of another release",
    "42883": "a function is missing: tables of another release",
    "42P01": "a table is missing: tables of another release, or a restore",
    "42P05": "a pooler gave the session to others: it has a statement of theirs",
    "53": "it has no memory, disk or connection left",
    "55": "a lock was not free in time, or an object is not ready",
    "57": "it shuts down, starts or cancels",
    "58": "its operating system failed",
    "F0": "its configuration is broken",
    "XX001": "a table is damaged",
    "XX002": "an index is damaged",
}
"""The beginning of an SQLSTATE -> why to wait."""
_FIXES: Final = {
    "26000": "unset DATABASE_PREPARE, or let the pooler keep prepared statements",
    "42P05": "unset DATABASE_PREPARE, or let the pooler keep prepared statements",
    "25006": "let DATABASE_URL name the primary, or turn default_transaction_read_only off",
    "42501": "grant it: `worker doctor` names what is missing",
    "42703": "run `worker migrate`",
    "42883": "run `worker migrate`",
    "42P01": "run `worker migrate`",
}


def is_away(error: psycopg.Error) -> bool:
    """Return whether to wait and try again; False = Postgres refuses this statement for good."""
    state = error.sqlstate
    if not state:  # the driver's own error: it found the connection dead, or could not connect
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state.startswith(tuple(_AWAY))


def fix_of(state: str | None) -> str | None:
    """Return what an operator can do about it; None = see whether Postgres runs."""
    return _FIXES.get(state or "")
