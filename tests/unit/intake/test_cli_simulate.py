"""`worker simulate`: where an envelope would go, without any server."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Said, invoke

AGENTS = """
[agents.default]
[agents.support]
model = "m/support"
[channels.sms]
kind = "telephone"
debounce_s = 4
max_age_s = 3600
[channels.sms.recipients]
"+13125550199" = "support"
[channels.sms.delivery]
url = "https://hooks.example.com/a-secret-path"
secret_env = "NOBODY"
[channels.email]
kind = "email"
other_attachments = "skip"
[channels.web.delivery]
task = "take"
queue = "crm"
[routes.desk.delivery]
task = "note"
queue = "back-office"
"""
ENVELOPE = {
    "version": 1,
    "channel": "sms",
    "user": "+13125550001",
    "message_id": "m-1",
    "text": "hi",
}


def simulate(folder: Path, envelope: object, *options: str) -> Said:
    (folder / "agents.toml").write_text(AGENTS)
    (folder / "envelope.json").write_text(json.dumps(envelope))
    env = {"AGENTS_FILE": str(folder / "agents.toml"), "SANDBOX_DIR": str(folder / "none")}
    return invoke("simulate", folder / "envelope.json", *options, env=env)


def told(folder: Path, envelope: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(simulate(folder, envelope, "--json").stdout)
    return found


def test_a_valid_envelope_is_routed_and_its_channels_policy_shown(tmp_path: Path) -> None:
    envelope = {**ENVELOPE, "recipient": "+13125550199", "sent_at": "2999-01-01T00:00:00Z"}
    found = told(tmp_path, envelope)
    assert (found["verdict"], found["why"]) == ("answered", None)
    assert (found["agent"], found["model"]) == ("support", "m/support")
    assert (found["hold_s"], found["reorder_s"], found["max_wait_s"]) == (4, 0.2, 10)
    assert found["expires_at"] == "2999-01-01T01:00:00+00:00"
    shown = simulate(tmp_path, envelope)
    assert shown.returncode == 0
    assert "webhook to hooks.example.com" in shown.stdout
    assert "a-secret-path" not in shown.stdout
    assert "its answer delivered" in shown.stdout
    assert "channel user  sms:+13125550001, recipient +13125550199" in shown.stdout


def test_a_reply_that_goes_by_a_route_is_shown_there(tmp_path: Path) -> None:
    envelope = {**ENVELOPE, "reply_to": "desk"}
    found = told(tmp_path, envelope)
    assert found["delivery"] == "Celery task note on queue back-office"
    assert found["way_out"] == "route:desk"
    shown = simulate(tmp_path, envelope).stdout
    assert "delivery      Celery task note on queue back-office (route:desk)" in shown
    assert told(tmp_path, ENVELOPE)["way_out"] == "sms"


def test_the_address_is_shown_as_it_is_compared(tmp_path: Path) -> None:
    envelope = {**ENVELOPE, "channel": "email", "user": "Jo@EXAMPLE.com"}
    found = told(tmp_path, envelope)
    assert found["channel_user"]["address"] == "Jo@example.com"
    assert found["delivery"] == "kept in Postgres, nothing is sent"
    shown = simulate(tmp_path, envelope).stdout
    assert "its answer kept" in shown
    assert "delivered" not in shown


@pytest.mark.parametrize(
    ("changes", "verdict", "why"),
    [
        ({"signals": ["vip", "opt_out"]}, "skipped", "opt_out"),
        (
            {
                "channel": "email",
                "user": "a@b.c",
                "attachments": [{"url": "https://a.b/c", "content_type": "text/plain"}],
            },
            "skipped",
            "unsupported_attachment",
        ),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expired", "expired"),
        ({"sent_at": "2020-01-01T00:00:00Z"}, "expired", "expired"),
    ],
)
def test_what_would_not_be_answered_is_said_with_its_outcome(
    tmp_path: Path, changes: dict[str, object], verdict: str, why: str
) -> None:
    said = simulate(tmp_path, {**ENVELOPE, **changes}, "--json")
    found = json.loads(said.stdout)
    assert (said.returncode, found["verdict"], found["why"]) == (0, verdict, why)


@pytest.mark.parametrize(
    ("envelope", "reason", "detail"),
    [
        ([], "envelope_invalid", "envelope: give an object"),
        ({**ENVELOPE, "version": 2}, "envelope_version", "version: this service reads 1"),
        ({**ENVELOPE, "user": "1312"}, "envelope_invalid", "user: on a telephone channel"),
        ({**ENVELOPE, "agent": "nobody"}, "unknown_agent", "agent: the configuration has none"),
        ({**ENVELOPE, "text": 1}, "envelope_invalid", "text: "),
    ],
)
def test_a_wrong_field_is_named_and_is_a_failure(
    tmp_path: Path, envelope: object, reason: str, detail: str
) -> None:
    said = simulate(tmp_path, envelope)
    assert said.returncode == 1
    assert f"reason {reason}" in said.stdout
    assert said.stderr.startswith(f"worker: this would be a dead letter: {detail}")


def test_a_field_that_nobody_reads_is_shown_with_what_may_be_meant(tmp_path: Path) -> None:
    found = told(tmp_path, {**ENVELOPE, "mesage_id": "x", "zzz": 1})
    assert found["unknown_fields"] == [
        {"name": "mesage_id", "meant": "message_id"},
        {"name": "zzz", "meant": None},
    ]


@pytest.mark.parametrize("text", ["{", "NaN", "[" * 100_000])
def test_what_is_no_json_comes_from_stdin_and_is_refused(text: str, tmp_path: Path) -> None:
    said = invoke("simulate", "-", env={"SANDBOX_DIR": str(tmp_path)}, stdin=text)
    assert (said.returncode, said.stderr.count("\n")) == (1, 1)


def test_a_file_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    said = invoke("simulate", tmp_path / "none.json", env={"SANDBOX_DIR": str(tmp_path)})
    assert said.returncode == 2
    assert "No such file" in said.stderr
