"""One reading of an address of Postgres: libpq's, with the fix where it cannot read one."""

from dataclasses import replace

import pytest

from message_worker_client import Producer, ProducerError
from message_worker_client.postgres import Address, AddressError
from worker.cli.revision import address_in
from worker.config.settings import settings_for
from worker.domain.errors import SettingsError


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("postgresql://u:p@h:6432/d", {"user": "u", "host": "h", "port": "6432", "dbname": "d"}),
        ("postgresql+psycopg://u@h/d", {"user": "u", "host": "h", "dbname": "d"}),
        ("postgres://u@h/d", {"user": "u", "host": "h", "dbname": "d"}),
        ("postgresql://a:1,b:2/d", {"host": "a,b", "port": "1,2", "dbname": "d"}),
        ("postgresql://%2Fvar%2Frun/d", {"host": "/var/run", "dbname": "d"}),
        ("postgresql:///d?host=/var/run&port=5433", {"host": "/var/run", "port": "5433"}),
        ("postgresql://h/d?options=-csearch_path%3Dshop", {"options": "-csearch_path=shop"}),
        ("postgresql://h/d?target_session_attrs=any", {"target_session_attrs": "any"}),
        ("postgresql://[::1]:5432/d", {"host": "::1"}),
        ("postgresql://u:%2F%23%3F%5B%40@h/d", {"password": "/#?[@"}),
        ("postgresql://u:a:b#c?@h/d", {"password": "a:b#c?", "host": "h"}),
        ("postgresql://u@%40abstract/d", {"host": "@abstract"}),
        ("postgresql://h/d?sslmode=verify-full&sslrootcert=system", {"sslrootcert": "system"}),
        ("host=/var/run dbname=d", {"host": "/var/run", "dbname": "d"}),
    ],
)
def test_an_address_is_read_as_libpq_reads_it(url: str, read: dict[str, str]) -> None:
    parameters = Address(url).parameters
    assert {name: parameters[name] for name in read} == read


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("postgresql://u:geheim@h/d?schema=shop", "options=-csearch_path"),
        ("postgresql://u:geheim@h/d?pgbouncer=true", "leave it out"),
        ("postgresql://u:geheim@h/d?connection_limit=5", "DATABASE_POOL_SIZE"),
        ("postgresql://u:geheim@h/d?sslmode=require&currentSchema=shop", "search_path"),
        ("postgresql://u:geheim@h/d?geheim=1", "parameters are those of libpq"),
        ("postgresql://u:gehe/im@h/d?x", "%2F"),
        ("postgresql://u:geheim@rest@h/d", "%40"),
        ("postgresql://u:geheim@h/d?sslmode=verify-full&sslrootcert=/geheim.pem", "no such file"),
        ("postgresql://u:geheim%ZZ@h/d", "%25"),
        ("postgresql://u:geheim@[h/d", "%5B"),
        ("postgresql://u:geheim@h/d?sslmode", "libpq"),
        ("postgresql://u@h:geheim/d", "postgresql://"),
        ("postgresql://a:1,b:geheim/d", "postgresql://"),
        ("postgresql://h/d?connect_timeout=geheim", "postgresql://"),
        ("mysql://u:geheim@h/d", "postgresql://"),
    ],
)
def test_what_libpq_cannot_read_is_one_line_with_the_fix_and_no_secret(url: str, fix: str) -> None:
    with pytest.raises(AddressError) as raised:
        Address(url)
    with pytest.raises(ProducerError) as refused:
        Producer(database_url=url)
    for text in (str(raised.value), str(refused.value)):
        assert fix in text
        assert "gehe" not in text
        assert "\n" not in text
    assert raised.value.__context__ is None


def test_a_setting_that_libpq_cannot_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:geheim@h/d?pgbouncer=true")
    with pytest.raises(SettingsError) as raised:
        settings_for("database_url")
    line = str(raised.value)
    assert line.startswith("DATABASE_URL: ")
    assert "pgbouncer: leave it out" in line
    assert "geheim" not in line
    assert raised.value.__context__ is None


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("-csearch_path=shop", {"search_path": "shop"}),
        ("-c search_path=shop -c work_mem=8MB", {"search_path": "shop", "work_mem": "8MB"}),
        ("--search-path=shop", {"search_path": "shop"}),
        (r"-c search_path=shop,\ public", {"search_path": "shop, public"}),
        ("-c DateStyle=German -c Search_Path=shop", {"search_path": "shop"}),
    ],
)
def test_the_settings_of_an_address_are_known(options: str, settings: dict[str, str]) -> None:
    address = Address("postgresql://h/d")
    address.parameters["options"] = options
    assert address.options == settings


def test_migrations_go_past_the_pooler() -> None:
    direct, pooled = "postgresql://direct/d", "postgresql://pooled/d"
    settings = replace(settings_for(), database_url=pooled, listen_database_url=direct)
    alone = replace(settings, listen_database_url=None)
    with address_in(settings) as first, address_in(alone) as second:
        assert (first, second) == (direct, pooled)


def test_an_address_shows_nothing_of_itself() -> None:
    assert "horse" not in repr(Address("postgresql://me:horse@db/shop"))
