"""The programs and queries that the documentation shows run."""

import base64
import json
import os
import re
import subprocess
import sys

import psycopg
import pytest
from redis import Redis

from message_worker_client.envelope import Envelope, parse_envelope
from tests.support.databases import ROOT
from tests.support.pages import fences


def run(program: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def queued_envelope(broker_url: str) -> Envelope:
    with Redis.from_url(broker_url) as redis:
        entries = redis.lrange("inbound", 0, -1)
    assert len(entries) == 1
    entry = json.loads(entries[0])
    assert entry["headers"]["task"] == "messages.receive"
    _, kwargs, _ = json.loads(base64.b64decode(entry["body"]))
    assert set(kwargs) == {"envelope"}
    return parse_envelope(kwargs["envelope"])


@pytest.mark.parametrize("snippet", fences("python"))
def test_every_python_snippet_queues_an_envelope(snippet: str, broker_url: str) -> None:
    printed = run(snippet, BROKER_URL=broker_url)
    assert printed.strip() in {"", queued_envelope(broker_url).message_id}


def test_the_example_program_queues_an_envelope_and_prints_its_id(broker_url: str) -> None:
    program = (ROOT / "examples" / "send_message.py").read_text()
    printed = run(program, "Are", "you", "open?", BROKER_URL=broker_url)
    envelope = queued_envelope(broker_url)
    assert (printed.strip(), envelope.text) == (envelope.message_id, "Are you open?")


@pytest.mark.parametrize(
    "query",
    [
        *fences("sql"),
        pytest.param((ROOT / "examples" / "find_reply.sql").read_text(), id="find_reply.sql"),
    ],
)
def test_every_query_shown_runs(query: str, database_url: str) -> None:
    placed = re.sub(r":'(\w+)'", r"%(\1)s", query).encode()
    with psycopg.connect(database_url) as connection:
        assert connection.execute(placed, {"message_id": "some-id"}).description


def test_the_tutorials_query_runs(database_url: str) -> None:
    text = (ROOT / "docs/tutorial/first-steps.md").read_text()
    (program,) = re.findall(r"(?ms)^python - <<'END'\n(.*?)^END$", text)
    run(program, DATABASE_URL=database_url)
