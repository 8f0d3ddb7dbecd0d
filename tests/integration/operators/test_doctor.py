"""`worker doctor`: no fault where there is none, and each planted fault found, with its fix."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis

from tests.support.cli import Said, invoke
from tests.support.databases import fresh_database
from tests.support.planting import (
    FLOWER_NOWHERE,
    Ground,
    ahead_of_the_code,
    behind_pooler,
    changed,
    configured,
    conversation_unknown,
    database_clock_skewed,
    database_missing,
    may_only_read,
    never_migrated,
    one_migration_back,
    read_only,
    replica,
    silent_about_itself,
    strange_behind_pooler,
    telnyx_clock,
    unknown_model,
    wrong_path,
)
from tests.support.raw_server import answers, http, raw_server
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.tls_front import make_certificate, postgres_with_tls
from tests.support.world import NAMESPACE
from worker.cli.doctor import check_celery as celery_app
from worker.cli.doctor import check_postgres as postgres
from worker.cli.doctor.check_telnyx import played
from worker.cli.doctor.doctor import AUDIT, CHECKS
from worker.cli.doctor.examine import Check, Setup, examine
from worker.config.agents_file import DEFAULT_MODEL as MODEL
from worker.domain.reports.finding import Finding, Level, ok
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.simulator import Simulator, SimulatorConfig
from worker.sandbox.simulator.behaviour.faults import Match
from worker.store.reports.orphans import PARENTS
from worker.store.schema import Base

STREAMS = "[agents.default]\nstream = true\n"
A = "default_agent = 'a'\n[agents.a]\n"
WITH_TOOL = A + "tools = ['t']\n[tools.t]\n"
WEBHOOK = """
url = "https://tools.invalid/t"
secret_env = "NOT_THERE"
parameters = {type = "object"}
"""


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(SimulatorConfig(list_visible_after_s=0)) as running:
        yield running


@pytest.fixture(scope="module")
def database(shared_postgres: EmbeddedPostgres) -> Iterator[str]:
    with fresh_database(shared_postgres) as url:
        yield url


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("doctor") / "redis") as server:
        yield server


@pytest.fixture
def ground(
    shared_postgres: EmbeddedPostgres,
    database: str,
    redis: EmbeddedRedis,
    simulator: Simulator,
    tmp_path: Path,
) -> Iterator[Ground]:
    with Redis.from_url(redis.url, decode_responses=True) as admin, ExitStack() as stack:
        admin.ping()
        yield Ground(
            postgres=shared_postgres,
            database_url=database,
            redis=redis,
            admin=admin,
            simulator=simulator,
            folder=tmp_path,
            stack=stack,
        )


def lines_of(said: Said) -> dict[str, dict[str, str]]:
    return {line["name"]: line for line in json.loads(said.stdout)["checks"]}


def looked(checks: Sequence[Check], setup: Setup) -> dict[str, Finding]:
    return {line.name: line for line in examine(checks, setup)}


# --- healthy -----------------------------------------------------------------------------------


def test_a_healthy_installation_has_no_fault_and_no_warning(ground: Ground) -> None:
    said = invoke("doctor", "--json", env=ground.env())
    assert said.returncode == 0, said.stdout
    assert json.loads(said.stdout)["healthy"] is True
    troubles = {name: line["found"] for name, line in lines_of(said).items() if line["fix"]}
    assert troubles == {}
    unchecked = {n for n, line in lines_of(said).items() if line["level"] == "not checked"}
    assert unchecked == {"image"}, "the simulator's models take no images"
    assert ground.simulator.conversations() == ()


def test_without_writes_nothing_is_asked_of_telnyx_but_the_models(ground: Ground) -> None:
    before = len(ground.simulator.log())
    said = invoke("doctor", "--no-telnyx-writes", env=ground.env())
    assert said.returncode == 0, said.stdout
    assert "dialect   all points: --no-telnyx-writes" in said.stdout
    paths = {getattr(one.event, "path", None) for one in ground.simulator.log()[before:]}
    assert paths == {None, "/v2/ai/openai/models"}
    secrets = (ground.simulator.api_key, "127.0.0.1", "postgresql", "redis://", str(NAMESPACE))
    for secret in secrets:
        assert secret not in said.stdout + said.stderr


@pytest.mark.parametrize(("agents", "level"), [("", "warning"), (STREAMS, "fault")])
def test_a_dialect_that_only_hurts_what_nobody_uses_is_a_warning(
    ground: Ground, agents: str, level: str
) -> None:
    ground.changes["agents_file"] = ground.agents(agents)
    ground.simulator.inject("stream_no_terminal", match=Match(text='"stream":true'))
    lines = {line.name: line for line in played(ground.setup())}
    assert lines["streaming"].level == level
    assert "stream ended" in lines["streaming"].found
    assert ("no agent needs it" in lines["streaming"].found) == (level == "warning")


# --- settings, and several faults at once ------------------------------------------------------


def test_with_nothing_configured_every_setting_is_named_and_the_rest_is_not_checked(
    tmp_path: Path,
) -> None:
    env = {"SANDBOX_DIR": str(tmp_path / "none"), "FLOWER_URL": FLOWER_NOWHERE}
    said = invoke("doctor", "--json", env=env)
    assert said.returncode == 1
    assert said.stderr == "worker: 4 of 34 checks found a fault\n"
    lines = lines_of(said)
    for name in ("DATABASE_URL", "BROKER_URL", "TELNYX_API_KEY", "NAMESPACE"):
        assert (lines[name]["level"], lines[name]["found"]) == ("fault", "is not set")
        assert lines[name]["fix"].startswith("give ")
    assert lines["migrations"]["found"] == "database connection comes first"
    assert lines["all points"]["level"] == "not checked"


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("postgresql://u@host:geheim/x", "postgresql://user:password@host/database"),
        ("postgresql://u:geheim@host/x?pgbouncer=true", "pgbouncer: leave it out"),
        ("postgresql://u:geheim@host/x?schema=shop", "options=-csearch_path%3DNAME"),
    ],
)
def test_an_address_that_libpq_cannot_read_is_named_and_not_shown(
    ground: Ground, url: str, fix: str
) -> None:
    said = invoke("doctor", "--json", "--no-telnyx-writes", env=ground.env(DATABASE_URL=url))
    lines = lines_of(said)
    assert (lines["DATABASE_URL"]["level"], lines["DATABASE_URL"]["found"]) == ("fault", "wrong")
    assert fix in lines["DATABASE_URL"]["fix"]
    assert lines["database connection"]["level"] == "not checked"
    assert "geheim" not in said.stdout + said.stderr


def test_broken_settings_hide_neither_one_another_nor_the_servers(ground: Ground) -> None:
    broken = ground.env(
        NAMESPACE="not-a-uuid",
        CONCURRENCY="3",
        LOG_LEVEL="LOUD",
        AGENTS_FILE="/nowhere.toml",
        TELNYX_API_KEY="",
    )
    lines = lines_of(invoke("doctor", "--json", "--no-telnyx-writes", env=broken))
    faults = {name for name, line in lines.items() if line["level"] == "fault"}
    assert faults == {"NAMESPACE", "TELNYX_API_KEY", "other settings"}
    assert "CONCURRENCY" in lines["other settings"]["fix"]
    assert "LOG_LEVEL: give DEBUG" in lines["other settings"]["fix"]
    assert {lines[name]["level"] for name in ("migrations", "eviction", "pooler")} == {"ok"}


def test_several_faults_are_all_found_in_one_run(ground: Ground) -> None:
    """What overrides Celery's settings from outside is seen, and nothing stops at a fault."""
    agents = '[agents.default]\nmodel = "nobody/none"\ncall_timeout_s = 200\n'
    env = ground.env(
        AGENTS_FILE=str(ground.agents(agents)),
        CELERY_RESULT_BACKEND="redis://127.0.0.1:2/1",
        CELERY_BROKER_READ_URL="redis://127.0.0.1:2/2",
    )
    said = invoke("doctor", "--json", env=env)
    assert said.returncode == 1
    lines = lines_of(said)
    faults = {name: line["fix"] for name, line in lines.items() if line["level"] == "fault"}
    assert set(faults) == {"Celery's broker", "result backend", "models"}
    assert "CELERY_RESULT_BACKEND" in faults["result backend"]
    assert "CELERY_BROKER_READ_URL" in faults["Celery's broker"]
    assert lines["all points"]["found"] == "models comes first"
    assert "127.0.0.1:2" not in said.stdout


@pytest.mark.parametrize(
    ("agents", "name", "found"),
    [
        (A + "tools = ['ghost']\n", "agents file", "agents.a.tools: there is no"),
        (A + "modell = 1\n", "agents file", "agents.a.modell"),
        (A + "[agents.b\n", "agents file", "is not TOML"),
        (A + "[channels.sms]\nagent = 'b'\n", "agents file", "there is no [agents.b]"),
        (WITH_TOOL + "function = 'nowhere_at_all:go'\n", "tools", "tools.t: function"),
        (WITH_TOOL + WEBHOOK, "tools", "NOT_THERE"),
    ],
)
def test_a_fault_of_the_agents_file_is_named(
    tmp_path: Path, agents: str, name: str, found: str
) -> None:
    file = tmp_path / "agents.toml"
    file.write_text(agents)
    env = {
        "SANDBOX_DIR": str(tmp_path / "none"),
        "FLOWER_URL": FLOWER_NOWHERE,
        "AGENTS_FILE": str(file),
    }
    line = lines_of(invoke("doctor", "--json", env=env))[name]
    assert line["level"] == "fault"
    assert found in line["found"]
    assert "fix it" in line["fix"]


# --- Postgres, Redis, Telnyx: one planted fault each -------------------------------------------


def group(name: str) -> list[Check]:
    return [check for check in CHECKS if check.group == name]


P, R, T = group("postgres"), group("broker"), group("telnyx")
FAULT, WARNING = Level.FAULT, Level.WARNING
PLANTS: list[tuple[Any, Any, str, Level, str, str]] = [
    (
        changed(database_url="postgresql://u:geheim@127.0.0.1:1/x"),
        P,
        "database connection",
        FAULT,
        "no connection",
        "is it running",
    ),
    (database_missing, P, "database connection", FAULT, "no connection", "does not exist"),
    (read_only, P, "database connection", FAULT, "read-only", "primary"),
    (database_clock_skewed, P, "database clock", FAULT, "45 s ahead of ours", "NTP"),
    (one_migration_back, P, "migrations", FAULT, "the newest is", "worker migrate"),
    (never_migrated, P, "migrations", FAULT, "never migrated", "worker migrate"),
    (ahead_of_the_code, P, "migrations", WARNING, "at 9999, ahead of this code", "upgrade"),
    (may_only_read, P, "permissions", FAULT, "no right to DELETE, INSERT, UPDATE", "GRANT"),
    (behind_pooler, P, "notifications", WARNING, "pooler in transaction mode", "once a second"),
    (
        lambda ground: behind_pooler(ground, "dropped"),
        P,
        "timeouts",
        WARNING,
        "no idle_in_transaction_session_timeout, lock_timeout, statement_timeout",
        "ALTER ROLE",
    ),
    (
        strange_behind_pooler,
        P,
        "session settings",
        WARNING,
        "DateStyle set in each transaction",
        "ALTER ROLE",
    ),
    (
        lambda ground: behind_pooler(ground, "refused"),
        P,
        "database connection",
        FAULT,
        "no connection",
        "ignore_startup_parameters",
    ),
    (
        changed(broker_url="redis://:geheim@127.0.0.1:1/0"),
        R,
        "broker connection",
        FAULT,
        "no connection",
        "BROKER_URL",
    ),
    (configured(requirepass="pw"), R, "broker connection", FAULT, "Authentication", "password"),
    (replica, R, "broker connection", FAULT, "replica", "primary"),
    (
        configured(maxmemory="100mb", maxmemory_policy="allkeys-lru"),
        R,
        "eviction",
        FAULT,
        "allkeys-lru",
        "noeviction",
    ),
    (configured(maxmemory_policy="volatile-ttl"), R, "eviction", WARNING, "once", "noeviction"),
    (silent_about_itself, R, "eviction", FAULT, "allkeys-lru", "noeviction"),
    (configured(appendonly="no"), R, "persistence", WARNING, "loses it all", "appendonly yes"),
    (
        configured(appendonly="no", save="60 1"),
        R,
        "persistence",
        WARNING,
        "snapshots only",
        "appendonly yes",
    ),
    (
        changed(telnyx_api_key="KEY-geheim"),
        T,
        "API key",
        FAULT,
        "refused (status 401, code 10009)",
        "TELNYX_API_KEY",
    ),
    (
        changed(telnyx_base_url="https://x:geheim/v2"),
        T,
        "API key",
        FAULT,
        "TELNYX_BASE_URL is no address",
        "https://api.telnyx.com/v2",
    ),
    (wrong_path, T, "API key", FAULT, "no such page (status 404", "TELNYX_BASE_URL"),
    (
        changed(telnyx_base_url="http://127.0.0.1:1/v2"),
        T,
        "API key",
        FAULT,
        "connect: ConnectionRefusedError",
        "TELNYX_BASE_URL",
    ),
    (conversation_unknown, T, "conversations", WARNING, "unknown here", "conversations unknown"),
    (unknown_model, T, "models", FAULT, "agents.other: nobody/none", MODEL),
    (telnyx_clock(-40), T, "Telnyx's clock", FAULT, "ahead of ours", "NTP"),
    (telnyx_clock(40), T, "Telnyx's clock", FAULT, "behind ours", "NTP"),
]


@pytest.mark.parametrize(
    ("plant", "checks", "name", "level", "found", "fix"),
    [pytest.param(*plant, id=f"{plant[2]}: {plant[4]}") for plant in PLANTS],
)
def test_a_planted_fault_is_found_named_and_fixed(
    ground: Ground,
    plant: Callable[[Ground], None],
    checks: Sequence[Check],
    name: str,
    level: Level,
    found: str,
    fix: str,
) -> None:
    plant(ground)
    lines = looked(checks, ground.setup())
    line = lines[name]
    assert line.level is level, line
    assert found in line.found
    assert fix in line.fix
    assert "\n" not in line.found + line.fix
    assert "geheim" not in line.found + line.fix
    worse = {n for n, one in lines.items() if one.level is Level.FAULT and n != name}
    assert worse == set(), "one cause, one fault"


def test_clocks_may_differ_a_little(ground: Ground) -> None:
    telnyx_clock(20)(ground)
    assert looked(T, ground.setup())["Telnyx's clock"].level is Level.OK


def test_the_connection_for_listen_is_the_one_that_is_checked(ground: Ground) -> None:
    direct = ground.database_url
    behind_pooler(ground)
    ground.changes["listen_database_url"] = direct
    assert looked(P, ground.setup())["notifications"].level is Level.OK
    for wrong, found in (
        ("postgresql://u:geheim@127.0.0.1:1/x", "no connection"),
        (ground.postgres.url_of("postgres"), "hears nothing"),
    ):
        ground.changes["listen_database_url"] = wrong
        line = looked(P, ground.setup())["notifications"]
        assert line.level is Level.FAULT
        assert found in line.found
        assert "LISTEN_DATABASE_URL" in line.fix
        assert "geheim" not in line.found + line.fix


def test_what_is_wrong_with_the_certificates_is_named_as_such(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # libpq looks for a root certificate there
    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / "none"))
    own, other = (tmp_path / name for name in ("own", "other"))
    own.mkdir()
    other.mkdir()
    certificate, stranger = make_certificate(own), make_certificate(other)
    with postgres_with_tls(certificate) as port:
        for host, more, fix in (
            ("localhost", "", "let sslrootcert name the file"),
            ("localhost", f"&sslrootcert={stranger.cert}", "let sslrootcert name the authority"),
            ("127.0.0.1", f"&sslrootcert={certificate.cert}", "give the name in Postgres's"),
        ):
            url = f"postgresql://u:geheim@{host}:{port}/d?sslmode=verify-full{more}"
            ground.changes["database_url"] = url
            line = looked(P, ground.setup())["database connection"]
            assert line.level is Level.FAULT
            assert fix in line.fix
            assert str(tmp_path) not in line.found + line.fix


def test_an_answer_without_a_date_leaves_the_clock_unchecked(ground: Ground) -> None:
    canned = http({"data": [{"id": MODEL}]})
    with raw_server(answers(canned)) as server:
        ground.changes["telnyx_base_url"] = server.url
        lines = looked(T, ground.setup())
    assert lines["Telnyx's clock"].level is Level.UNCHECKED
    assert lines["models"].level is Level.OK


def test_a_pooler_in_transaction_mode_is_seen_and_fits_because_nothing_is_prepared(
    ground: Ground,
) -> None:
    behind_pooler(ground)
    line = looked(P, ground.setup())["pooler"]
    assert (line.level, line.found) == (
        Level.OK,
        "one in transaction mode; we prepare no statements",
    )


def test_with_prepared_statements_a_pooler_that_loses_them_is_a_fault(ground: Ground) -> None:
    behind_pooler(ground)
    ground.changes["database_prepare"] = True
    finding = looked(P, ground.setup())["pooler"]
    assert finding.level is Level.FAULT
    assert "DATABASE_PREPARE" in finding.fix
    assert "max_prepared_statements" in finding.fix
    # PgBouncer from 1.21 on, with max_prepared_statements; Debian 12 has 1.18.
    keeps = postgres.judge_pooler(moves=True, prepares=True)
    assert (keeps.level, "keeps" in keeps.found) == (Level.OK, True)
    assert postgres.judge_pooler(moves=False, prepares=True).level is Level.OK
    assert "DATABASE_PREPARE" in postgres.judge_pooler(moves=False, prepares=False).found


@pytest.mark.parametrize(("number", "level"), [(130_022, Level.FAULT), (140_000, Level.OK)])
def test_a_postgres_that_is_too_old_is_a_fault(number: int, level: Level) -> None:
    assert postgres.judge_version(number).level is level


@pytest.mark.parametrize(("timeout_s", "level"), [(89, Level.FAULT), (90, Level.OK)])
def test_the_visibility_timeout_has_to_outlast_a_step(
    ground: Ground, timeout_s: float, level: Level
) -> None:
    assert celery_app.judge_visibility(ground.setup(), timeout_s).level is level


# --- Flower ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pages", "level", "found"),
    [
        ((http("Flower"), http()), "fault", "without asking"),
        ((http(status=401), http("{}")), "fault", "without asking"),
        ((http(status=401), http(status=401)), "ok", "it asks who looks"),
        ((http(status=302), http(status=401)), "ok", "it asks who looks"),
        ((b"SSH-2.0-x\r\n\r\n",), "warning", "no answer"),
    ],
)
def test_a_flower_that_shows_itself_to_anybody_is_a_fault(
    tmp_path: Path, pages: tuple[bytes, ...], level: str, found: str
) -> None:
    with raw_server(answers(*pages)) as server:
        url = f"http://somebody:geheim@127.0.0.1:{server.port}"
        env = {"SANDBOX_DIR": str(tmp_path / "none"), "FLOWER_URL": url}
        line = lines_of(invoke("doctor", "--json", env=env))["Flower"]
        assert not any(b"authorization" in request.lower() for request in server.requests)
    assert line["level"] == level
    assert found in line["found"]
    assert "FLOWER_" in line["fix"] or level == "ok"


@pytest.mark.parametrize("url", ["ftp://x", "5555", "http://[", "http://x:port"])
def test_a_flower_address_that_is_none_is_a_fault(tmp_path: Path, url: str) -> None:
    env = {"SANDBOX_DIR": str(tmp_path / "none"), "FLOWER_URL": url}
    line = lines_of(invoke("doctor", "--json", env=env))["Flower"]
    assert (line["level"], line["found"]) == ("fault", "FLOWER_URL is no address")


# --- time, and checks that break ---------------------------------------------------------------


def test_a_check_that_hangs_or_breaks_is_a_fault_and_the_next_one_runs(ground: Ground) -> None:
    over = threading.Event()
    setup = ground.setup()

    def hang(_: Setup) -> Any:  # noqa: ANN401 # it never gives anything
        over.wait(30)

    def break_down(_: Setup) -> Any:  # noqa: ANN401 # nor does this
        raise RuntimeError("geheim")

    checks = [
        Check("g", "hangs", hang, timeout_s=0.1),
        Check("g", "breaks", break_down),
        Check("g", "needs it", lambda _: ok("fine"), needs=("breaks",)),
        Check("g", "works", lambda _: ok("fine")),
    ]
    lines = looked(checks, setup)
    over.set()
    assert [line.level for line in lines.values()] == [
        Level.FAULT,
        Level.FAULT,
        Level.UNCHECKED,
        Level.OK,
    ]
    assert lines["hangs"].found == "no answer within 0.1 s"
    assert lines["breaks"].found == "the check itself failed: RuntimeError"


def test_servers_that_accept_and_say_nothing_end_in_time(ground: Ground) -> None:
    with TcpProxy(("127.0.0.1", ground.redis.port)) as proxy:
        proxy.mode = Mode.BLACK_HOLE
        ground.changes["broker_url"] = ground.redis.url_of(0, port=proxy.port)
        line = looked(R, ground.setup())["broker connection"]
    assert (line.level, line.found) == (Level.FAULT, "no connection (TimeoutError)")


def test_the_privileges_of_every_table_are_checked() -> None:
    assert set(postgres.TABLES) == set(Base.metadata.tables)


def test_an_audit_counts_rows_whose_parent_is_gone(ground: Ground) -> None:
    assert looked(AUDIT, ground.setup())["rows"].level is Level.OK
    ground.own_database()
    with psycopg.connect(ground.database_url) as connection:
        connection.execute("INSERT INTO replies (turn_id, text, source) VALUES (7, 'Hi.', 'call')")
    said = invoke("doctor", "--json", "--no-telnyx-writes", "--audit", env=ground.env())
    line = lines_of(said)["rows"]
    assert (line["level"], line["found"]) == (
        "fault",
        "what they refer to is gone: replies.turn_id (1)",
    )
    assert "from one backup" in line["fix"]


def test_an_audit_looks_at_each_reference_that_has_no_key() -> None:
    outlive = {"attempt_log", "audits", "erasures"}
    """A person's tables of which rows stay once the person is erased."""
    names = {"channel_user_id", "turn_id", "open_turn_id", "conversation_id", "reply_id"}
    assert set(PARENTS) == {
        (table.name, column.name)
        for table in Base.metadata.tables.values()
        for column in table.columns
        if column.name in names and not column.foreign_keys and table.name not in outlive
    }


def test_every_group_names_its_checks_once() -> None:
    names = [check.name for check in CHECKS]
    assert len(names) == len(set(names))
    for place, check in enumerate(CHECKS):
        assert set(check.needs) <= set(names[:place])
