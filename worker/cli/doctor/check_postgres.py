"""Postgres, through the service's own connections, so that their settings are what is checked."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Final

from message_worker_client.postgres import Address
from worker.bootstrap.reports import open_database
from worker.cli.doctor.examine import Setup
from worker.cli.errors import CommandError
from worker.cli.revision import revisions
from worker.domain.errors import DatabaseAwayError
from worker.domain.reports.finding import Finding, fault, ok, warning
from worker.store.revisions import RevisionStore
from worker.store.sql import Connection, sql

MAX_SKEW_S: Final = 30.0
OLDEST: Final = 14
"""gen_random_uuid() without an extension. The tests run on 18."""
# Written out: SQLAlchemy, which has them, takes longer to import than all checks.
TABLES: Final = (
    *("attempt_log", "audits", "budget_days", "calls", "channel_users", "cluster", "consents"),
    *("conversations", "dead_letters", "deliveries", "disclosures", "erasures", "gates"),
    *("hand_overs", "inbox", "locks", "mailboxes", "mails", "messages", "rates", "replies"),
    *("retention_passes", "secrets", "tool_calls", "turns", "workers"),
)
_DELETES_FROM: Final = ("gates", "inbox", "workers")
_TIMEOUTS: Final = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
_NOTIFY_S: Final = 1.0
_TURNS: Final = 12
"""Transactions, by turns with and without another one: the driver prepares at the third."""
_LOGS_STATEMENTS: Final = (
    "log_min_duration_statement",
    "log_min_duration_sample",
    "log_statement",
    "log_transaction_sample_rate",
)
_LOG_DEFAULTS: Final = {
    **dict.fromkeys(_LOGS_STATEMENTS, "-1"),
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "default",
    "auto_explain.log_min_duration": "-1",
    "auto_explain.log_parameter_max_length": "-1",
    "pgaudit.log_parameter": "off",
}

_SETTINGS = sql("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)")
_PID = sql("SELECT pg_backend_pid()")
_NOW = sql("SELECT extract(epoch FROM clock_timestamp())")
_MISSING = sql("""
SELECT DISTINCT asked.privilege FROM (
    SELECT t, p FROM unnest(CAST(:tables AS text[])) t,
        unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) p
    UNION ALL SELECT t, 'DELETE' FROM unnest(CAST(:emptied AS text[])) t
    UNION ALL SELECT 'alembic_version', 'SELECT'
) AS asked (name, privilege)
WHERE NOT coalesce(has_table_privilege(to_regclass(asked.name), asked.privilege), true)
ORDER BY 1
""")
_MAY_NUMBER = sql("SELECT has_sequence_privilege('turns_id_seq', 'USAGE')")
_STANDBYS = sql("""
SELECT count(*), current_setting('synchronous_standby_names') <> ''
    AND current_setting('synchronous_commit') NOT IN ('off', 'local') FROM pg_stat_replication""")
_LOST_STATEMENT: Final = frozenset({"26000", "42P05"})  # no statement, or a foreign one
_READ_ONLY = sql("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'")

_WORDS: Final = (
    # libpq's own words, so before those of Postgres.
    ("root certificate", "let sslrootcert name the file of the authority that signed Postgres's"),
    ("certificate verify failed", "let sslrootcert name the authority that signed Postgres's"),
    ("does not match host name", "give the name in Postgres's certificate, or sslmode=verify-ca"),
    ("startup parameter", "set ignore_startup_parameters = options in the pooler before it"),
    ("authentication", "the user or the password in DATABASE_URL is wrong"),
    ("does not exist", "the database or the user in DATABASE_URL does not exist: make it"),
    ("session is read-only", "let DATABASE_URL name the primary, not a standby"),
    ("too many", "it has no connection left: lower DATABASE_POOL_SIZE, or raise max_connections"),
    ("remaining connection slots", "lower DATABASE_POOL_SIZE, or raise max_connections"),
)
"""A part of the refusal -> the fix."""

_opened = partial(open_database, name="worker-doctor")


def connection(setup: Setup) -> Finding:
    """Check that it can be reached, is new enough and takes writes."""
    try:
        with _opened(setup.settings.database_url) as database, database.transaction() as one:
            if one.execute(_READ_ONLY).scalar_one():
                return fault("it is read-only", "let DATABASE_URL name the primary, not a standby")
            version = int(_settings(one, "server_version_num")["server_version_num"])
    except DatabaseAwayError as error:
        return _away(error, "DATABASE_URL")
    return judge_version(version)


def _away(error: DatabaseAwayError, name: str) -> Finding:
    refusal = str(error.__cause__)
    fixes = (fix for words, fix in _WORDS if words in refusal)
    fix = next(fixes, "is it running, and is DATABASE_URL right?")
    return fault(f"no connection ({error})", fix.replace("DATABASE_URL", name))


def judge_version(server_version_num: int) -> Finding:
    """Judge Postgres's version, such as 180001."""
    major = server_version_num // 10_000
    if major < OLDEST:
        return fault(f"PostgreSQL {major}", f"upgrade to {OLDEST} or newer")
    return ok(f"PostgreSQL {major}")


def clock(setup: Setup) -> Finding:
    """Compare its clock with ours."""
    with _opened(setup.settings.database_url) as database, database.statement() as one:
        one.execute(_PID)  # connected before the time is taken
        before = time.time()
        theirs = float(one.execute(_NOW).scalar_one())
        ours = (before + time.time()) / 2
    return judge_skew(theirs - ours)


def judge_skew(skew_s: float) -> Finding:
    """Judge by how much another clock is ahead of ours."""
    way = "ahead of" if skew_s > 0 else "behind"
    if abs(skew_s) > MAX_SKEW_S:
        fix = "keep both clocks by NTP; of messages the time of sending is compared with it"
        return fault(f"its clock is {abs(skew_s):.0f} s {way} ours", fix)
    return ok(f"less than {max(1, round(abs(skew_s)))} s apart")


def replication(setup: Setup) -> Finding:
    """Check whether commits wait for a standby."""
    with _opened(setup.settings.database_url) as database, database.statement() as one:
        standbys, waits = one.execute(_STANDBYS).one()
    if standbys and not waits:
        fix = "set synchronous_standby_names; docs/how-to/fail-over.md has what cannot be saved"
        return warning("asynchronous: after a failover the newest commits are missing", fix)
    return ok(f"{'synchronous' if waits else 'none'}, {standbys} standbys connected")


def migrations(setup: Setup) -> Finding:
    """Check that the tables are those of this version."""
    with _opened(setup.settings.database_url) as database:
        current = RevisionStore(database).revision()
    try:
        *older, head = revisions()
    except CommandError as error:
        found, _, fix = str(error).partition(": ")
        return warning(found, fix)
    if current == head:
        return ok(f"at {head}, the newest")
    if current is None:
        return fault(f"never migrated, the newest is {head}", "run `worker migrate`")
    if current not in older:
        # For some minutes of each upgrade, and after a rollback: it has only grown.
        fix = "usual during an upgrade; else run the version that made it, or the one before that"
        return warning(f"at {current}, ahead of this code ({head})", fix)
    return fault(f"at {current}, the newest is {head}", "run `worker migrate`")


def permissions(setup: Setup) -> Finding:
    """Check that our user has the privileges that the service needs."""
    values = {"tables": list(TABLES), "emptied": list(_DELETES_FROM)}
    with _opened(setup.settings.database_url) as database, database.transaction() as one:
        missing = [row.privilege for row in one.execute(_MISSING, values)]
        may_number = bool(one.execute(_MAY_NUMBER).scalar_one())
    if missing:
        what = ", ".join(missing)
        return fault(f"no right to {what}", f"GRANT {what} ON ALL TABLES IN SCHEMA … TO its user")
    if not may_number:
        fix = "GRANT USAGE ON ALL SEQUENCES IN SCHEMA … TO its user"
        return fault("no right to USAGE of the sequences", fix)
    return ok("our tables can be read and written")


def notifications(setup: Setup) -> Finding:
    """Check that LISTEN, on the connection that workers use for it, receives NOTIFY."""
    url, direct = setup.settings.database_url, setup.settings.listen_database_url
    try:
        with (
            _opened(direct or url) as listening,
            _opened(url) as speaking,
            listening.statement() as ear,
        ):
            ear.driver.execute("LISTEN worker_doctor")
            with speaking.statement() as mouth:
                mouth.driver.execute("NOTIFY worker_doctor")
            heard = list(ear.driver.notifies(timeout=_NOTIFY_S, stop_after=1))
    except DatabaseAwayError as error:
        return _away(error, "LISTEN_DATABASE_URL" if direct else "DATABASE_URL")
    if heard:
        return ok("LISTEN hears NOTIFY")
    if direct:
        fix = "let LISTEN_DATABASE_URL name the same database, past the pooler"
        return fault("LISTEN hears nothing through LISTEN_DATABASE_URL", fix)
    fix = "connect past the pooler, or keep it: work is found by looking, once a second"
    return warning("LISTEN hears nothing, as behind a pooler in transaction mode", fix)


def timeouts(setup: Setup) -> Finding:
    """Check that the limits that each connection asks for are in force."""
    with _opened(setup.settings.database_url) as database, database.transaction() as one:
        found = _settings(one, *_TIMEOUTS)
    if off := sorted(name for name, value in found.items() if value == "0"):
        names = ", ".join(off)
        fix = f"set {names} for the user: ALTER ROLE … SET; a pooler drops what we ask for"
        return warning(f"no {names}", fix)
    return ok("in force")


def log_file(setup: Setup) -> Finding:
    """Check that Postgres does not write what people send into its own log."""
    with _opened(setup.settings.database_url) as database, database.transaction() as one:
        found = _settings(one, *_LOG_DEFAULTS)
    return judge_log(found)


def judge_log(found: Mapping[str, str]) -> Finding:
    """Judge settings by name. One that Postgres does not have is missing, and at its default."""
    now = {**_LOG_DEFAULTS, **found}
    # What people write are parameters. Postgres puts those of a statement into DETAIL, which a
    # terse log leaves out.
    is_terse = now["log_error_verbosity"] == "terse"
    by = []
    if not is_terse and now["log_parameter_max_length"] != "0":
        by = [name for name in _LOGS_STATEMENTS if now[name] not in {"-1", "0.0", "none", "ddl"}]
        by = [name for name in by if (name, now[name]) != ("log_transaction_sample_rate", "0")]
    if not is_terse and now["log_parameter_max_length_on_error"] != "0":
        by.append("log_parameter_max_length_on_error")
    # Extensions put them into the line itself.
    if now["auto_explain.log_min_duration"] != "-1":
        by += ["auto_explain"] * (now["auto_explain.log_parameter_max_length"] != "0")
    if now["pgaudit.log_parameter"] == "on":
        by.append("pgaudit.log_parameter")
    if not by:
        return ok("without what people write")
    fix = "as a superuser: ALTER DATABASE … SET log_parameter_max_length = 0; see docs (security)"
    return warning(f"what people write is in it, by {', '.join(by)}", fix)


def session(setup: Setup) -> Finding:
    """Check that the settings that the stores rely on are in force for the whole session."""
    address = Address(setup.settings.database_url)
    with address.connect(name="worker-doctor", settings={}) as driver:
        missing = address.missing(driver)
    # SET LOCAL name = value
    names = ", ".join(sorted({one.decode().split()[2] for one in missing if b" LOCAL " in one}))
    if not names:
        return ok("as the stores need them")
    fix = "no message is at risk; ALTER ROLE … SET them saves each statement two round trips"
    return warning(f"{names} set in each transaction: a pooler drops what we ask for", fix)


def pooler(setup: Setup) -> Finding:
    """Check whether a pooler serves one connection of ours by several of Postgres's.

    While another client holds the process that served us, a pooler in transaction mode has to use a
    different one. That one knows a statement that we prepared only if the pooler sees to it.
    """
    url, prepares = setup.settings.database_url, setup.settings.database_prepare
    pids, keeps = set[int](), True
    with _opened(url, prepare=prepares) as ours, _opened(url) as others:
        try:
            for number in range(_TURNS):
                with others.transaction() if number % 2 else nullcontext() as holding:
                    if holding is not None:
                        holding.execute(_PID)
                    with ours.transaction() as one:
                        pids.add(int(one.execute(_PID).scalar_one()))
        except DatabaseAwayError as error:
            if error.code not in _LOST_STATEMENT:
                raise
            keeps = False
    return judge_pooler(moves=len(pids) > 1, prepares=prepares, keeps=keeps)


def judge_pooler(*, moves: bool, prepares: bool, keeps: bool = True) -> Finding:
    """Judge whether our connections may go through this pooler.

    `keeps`: a statement that we prepare is known wherever it is used.
    """
    if not keeps:
        fix = "unset DATABASE_PREPARE, or set max_prepared_statements (PgBouncer from 1.21 on)"
        return fault("one in transaction mode, which loses the statements that we prepare", fix)
    if not moves:
        hint = "" if prepares else "; DATABASE_PREPARE=true would save Postgres much work"
        return ok(f"none in transaction mode{hint}")
    if prepares:
        return ok("one in transaction mode, which keeps the statements that we prepare")
    return ok("one in transaction mode; we prepare no statements")


def _settings(one: Connection, *names: str) -> dict[str, str]:
    return {row.name: row.setting for row in one.execute(_SETTINGS, {"names": list(names)})}
