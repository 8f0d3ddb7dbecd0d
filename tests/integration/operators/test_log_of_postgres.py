"""Postgres's own log: what it writes of people, against what `worker doctor` says of its settings.

Postgres sends a line of its log to the client as well, but with the details that a terse log leaves
out: so the file is read.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs

from message_worker_client import Producer
from tests.support.databases import ROOT
from tests.support.programs import are_installed
from worker.cli.doctor.check_postgres import log_file
from worker.domain.reports.finding import Level
from worker.handlers.background.threads import _tried
from worker.sandbox.postgres import EmbeddedPostgres
from worker.store.database import Database
from worker.store.sql import sql as query

ALL = {"log_min_duration_statement": "0", "log_error_verbosity": "default"}
TEXT = "canary-7361"
X = {"x": TEXT}


class OwnLog:
    """What the server has written since the test began."""

    def __init__(self, server: EmbeddedPostgres, url: str) -> None:
        self.url = url
        self._file = server._log
        self._begin = self._file.stat().st_size

    def text(self) -> str:
        with self._file.open("rb") as file:
            file.seek(self._begin)
            return file.read().decode(errors="replace")

    def configure(self, settings: Mapping[str, str]) -> None:
        with psycopg.connect(self.url, autocommit=True) as owner:
            for name, value in settings.items():
                owner.execute(
                    sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                        sql.Identifier(owner.info.dbname), sql.SQL(name), sql.Literal(value)
                    )
                )


@pytest.fixture
def log(shared_postgres: EmbeddedPostgres, database_url: str) -> Iterator[OwnLog]:
    return OwnLog(shared_postgres, database_url)


def judged(url: str) -> Level:
    setup: Any = SimpleNamespace(settings=SimpleNamespace(database_url=url))
    return log_file(setup).level


@pytest.mark.parametrize(
    ("settings", "holds_texts"),
    [
        ({}, False),
        (ALL, True),
        (ALL | {"log_error_verbosity": "terse"}, False),
        (ALL | {"log_parameter_max_length": "0"}, False),
        ({"log_statement": "all", "log_error_verbosity": "verbose"}, True),
        ({"log_transaction_sample_rate": "1", "log_error_verbosity": "default"}, True),
    ],
)
def test_the_doctor_warns_where_the_log_really_holds_what_people_write(
    log: OwnLog, settings: dict[str, str], holds_texts: bool
) -> None:
    log.configure(settings)
    with Producer(database_url=log.url) as producer:
        producer.send(channel="web", user="ann", message_id="m-1", text=TEXT)
    assert (TEXT in log.text()) == holds_texts
    assert (judged(log.url) is Level.WARNING) == holds_texts


def test_a_refused_statement_is_in_our_log_with_its_code_and_without_its_values(
    log: OwnLog,
) -> None:
    database = Database(log.url, pool_size=1)

    def refused() -> None:
        with database.statement() as one:
            one.execute(query("SELECT FROM inbox WHERE 1 / (id - id) = CAST(:x AS text)::int"), X)

    with capture_logs() as logs:
        _tried("sweep", refused, None)
    database.close()
    assert logs == [
        {"event": "sweep.defect", "error": "PermanentError 22P02", "log_level": "error"}
    ]


if are_installed("psql"):

    def test_the_example_in_shell_puts_no_text_into_a_statement(log: OwnLog) -> None:
        """As parameters, texts could be left out of the log; in a statement they could not."""
        log.configure(ALL | {"log_statement": "all", "log_error_verbosity": "verbose"})
        envelope = {
            "version": 1,
            "channel": "web",
            "user": "ann",
            "message_id": "m-1",
            "text": f"{TEXT} \\. \t \\ \\n \"quoted\" \x01\x02 \u20ac \u2028 %s $1 :text :'x'",
        }
        for document in (
            json.dumps(envelope),
            json.dumps(envelope | {"message_id": "m-2"}, ensure_ascii=False, indent=2),
            json.dumps(envelope | {"message_id": "m-3"}, indent=2).replace("\n", "\r\n") + "\r\n\n",
        ):
            subprocess.run(
                ["sh", Path(ROOT, "examples", "send_message_sql.sh")],
                env=os.environ | {"DATABASE_URL": log.url},
                input=document.encode(),
                check=True,
                timeout=30,
            )
        with psycopg.connect(log.url) as reader:
            rows = reader.execute("SELECT envelope FROM inbox ORDER BY id").fetchall()
        assert [row[0] | {"message_id": "m-1"} for row in rows] == [envelope] * 3
        assert "enqueue_message" in log.text()
        assert TEXT not in log.text()
