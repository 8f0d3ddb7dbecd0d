"""`worker send` up to the queue: no worker runs here."""

import base64
import json
from pathlib import Path

import pytest
from redis import Redis

from tests.support.cli import invoke


@pytest.fixture
def env(broker_url: str, tmp_path: Path) -> dict[str, str]:
    """A producer's environment: the broker is all it knows."""
    return {"SANDBOX_DIR": str(tmp_path / "none"), "BROKER_URL": broker_url}


def queued(broker_url: str) -> list[tuple[dict[str, str], dict[str, object]]]:
    """Headers and envelope of what waits, the first one first."""
    with Redis.from_url(broker_url) as redis:
        entries = [json.loads(entry) for entry in reversed(redis.lrange("inbound", 0, -1))]
    found = []
    for entry in entries:
        _, kwargs, _ = json.loads(base64.b64decode(entry["body"]))
        found.append((entry["headers"], kwargs["envelope"]))
    return found


def test_flags_become_one_envelope(env: dict[str, str]) -> None:
    said = invoke(
        *("send", "--channel", "sms", "--user", "+13125550001", "--text", "Hello"),
        *("--recipient", "+13125550100", "--thread", "t", "--message-id", "m1", "--json"),
        env=env,
    )
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout) == {"sent": 1, "message_id": "m1"}
    ((headers, envelope),) = queued(env["BROKER_URL"])
    assert headers["task"] == "messages.receive"
    assert envelope == {
        "version": 1,
        "channel": "sms",
        "user": "+13125550001",
        "text": "Hello",
        "recipient": "+13125550100",
        "thread": "t",
        "message_id": "m1",
    }


def test_headers_hold_nothing_that_somebody_wrote(env: dict[str, str]) -> None:
    invoke("send", "--channel", "web", "--user", "ann-onymous", "--text", "secret", env=env)
    ((headers, _),) = queued(env["BROKER_URL"])
    assert "secret" not in json.dumps(headers)
    assert "ann-onymous" not in json.dumps(headers)


def test_what_is_no_envelope_is_not_sent_and_the_field_is_named(env: dict[str, str]) -> None:
    said = invoke("send", "--channel", "sms", "--text", "Hello", env=env)
    assert said.returncode == 2
    assert "user" in said.stderr
    assert queued(env["BROKER_URL"]) == []


def test_bad_lines_are_named_by_number_and_field_and_the_others_go_out(
    env: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "some.jsonl"
    lines = [
        '{"text": "one"}',
        "{broken",
        '{"text": "three", "channel": "NO SPACES"}',
        "",
        '{"text": "nul \\u0000"}',
        '{"text": "six", "message_id": "own", "user": "somebody", "channel": "crm"}',
        '{"text": "seven", "user": "somebody", "channel": "email"}',
        '{"text": "eight", "user": "13125550001", "channel": "sms"}',
    ]
    file.write_text("\n".join(lines))
    said = invoke("send", "--file", file, "--channel", "web", "--users", "10", env=env)
    assert said.returncode == 1
    faults = said.stderr.splitlines()
    assert faults[0] == "some.jsonl: line 2: the line is not JSON"
    assert faults[1].startswith("some.jsonl: line 3: channel: ")
    assert faults[2].startswith("some.jsonl: line 5: ")
    assert faults[3].startswith("some.jsonl: line 7: user: on an e-mail channel")
    assert faults[4].startswith("some.jsonl: line 8: user: on a telephone channel")
    assert faults[5] == "worker: 5 lines of some.jsonl were not sent"
    sent = [envelope for _, envelope in queued(env["BROKER_URL"])]
    assert [(one["message_id"], one["user"], one["channel"]) for one in sent] == [
        ("some.jsonl:1", "user0000", "web"),
        ("own", "somebody", "crm"),
    ]


def test_the_same_file_gives_the_same_envelopes_again(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "some.tsv"
    file.write_text("".join(f"ham\ttext {n}\n" for n in range(40)))
    for _ in range(2):
        said = invoke("send", "--file", file, "--channel", "sms", "--users", "7", env=env)
        assert said.returncode == 0, said.stderr
    sent = [envelope for _, envelope in queued(env["BROKER_URL"])]
    assert len(sent) == 80
    assert sent[:40] == sent[40:]
    assert {one["user"] for one in sent} == {f"+1312555{n:04d}" for n in range(7)}
    assert len({one["sent_at"] for one in sent}) == 40


def test_waiting_for_what_no_worker_takes_ends_with_its_time(
    env: dict[str, str], database_url: str
) -> None:
    said = invoke(
        *("send", "--channel", "web", "--user", "a", "--text", "x", "--wait", "--timeout", "0.5"),
        env=env | {"DATABASE_URL": database_url},
    )
    assert said.returncode == 1
    assert "1 without an outcome after 0.5 s" in said.stderr
