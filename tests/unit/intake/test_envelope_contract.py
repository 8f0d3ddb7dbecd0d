"""The envelope, version 1, is what the golden fixtures say, for ever; and its JSON Schema."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator
from kombu.utils.json import dumps

from message_worker_client.envelope import EnvelopeError, parse_envelope, schema
from tests.support.cli import invoke
from tests.support.envelopes import FIXTURES, INVALID, VALID, WIRE, envelopes
from worker.domain.reasons import DeadLetterReason
from worker.queue.gate.gate import DEAD_LETTER_TASK, HIDDEN, EntryGate

SCHEMA = Draft202012Validator(schema())
BEYOND_THE_SCHEMA = {
    "bytes of UTF-8": {
        "text_too_large",
        "text_too_large_in_bytes",
        "message_id_too_large",
        "message_id_too_large_when_composed",
        "user_with_recipient_and_thread_too_large",
        "metadata_value_too_large",
    },
    "half of a surrogate pair": {"text_nul", "text_lone_surrogate", "unknown_field_nul"},
    "give RFC 3339": {"sent_at_no_such_day"},
    # Python's `$` matches before a line end too; that of ECMA-262, which JSON Schema means, not.
    "String should match pattern": {"channel_line_end"},
}
"""What JSON Schema cannot say: the words of our refusals, and the fixtures of each."""
PUBLISHED, PUBLISHED_DIGEST = (
    87,
    "4fabe7f513e4690e8121a38fd6bec263c9a203df3c384cf3c3cbb9af6b954ffa",
)
"""How many lines SHA256SUMS had when version 1 was published, and their digest."""
MESSAGE = "golden fixtures never change: a change that breaks one is a new version of the envelope"


def refusal(document: object) -> EnvelopeError | None:
    try:
        parse_envelope(document)
    except EnvelopeError as error:
        return error
    return None


def test_no_golden_fixture_was_changed_or_taken_away() -> None:
    listed = {}
    for line in (FIXTURES / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        listed[name] = digest
    found = {
        str(file.relative_to(FIXTURES)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in FIXTURES.glob("*/*")
        if file.suffix in {".json", ".bin"}
    }
    assert {name: found.get(name) for name in listed} == listed, MESSAGE
    assert set(found) == set(listed), "a new fixture: add its line to SHA256SUMS with build.py"


def test_the_list_of_the_fixtures_is_only_ever_made_longer() -> None:
    lines = (FIXTURES / "SHA256SUMS").read_text().splitlines()
    first = "\n".join(lines[:PUBLISHED]).encode()
    assert hashlib.sha256(first).hexdigest() == PUBLISHED_DIGEST, MESSAGE


@pytest.mark.parametrize("name", VALID)
def test_a_valid_envelope_is_read_with_what_it_says(name: str) -> None:
    envelope = parse_envelope(VALID[name])
    assert envelope.version == 1
    assert set(json.loads(envelope.as_json())) == set(VALID[name])
    SCHEMA.validate(VALID[name])


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_envelope_is_refused_for_its_reason_and_the_field_is_named(name: str) -> None:
    case = INVALID[name]
    refused = refusal(case["envelope"])
    assert refused is not None
    assert refused.reason == DeadLetterReason(case["reason"])
    assert str(refused).startswith(f"{case['field']}: ")
    beyond = {kind for kind, names in BEYOND_THE_SCHEMA.items() if name in names}
    assert SCHEMA.is_valid(case["envelope"]) is bool(beyond)
    assert all(kind in str(refused) for kind in beyond)


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"metadata": {"ok": "x", "order": 7}}, "metadata: order: Input should be a valid string"),
        ({"metadata": {"a": "x", "Mrs Miller": 7}}, "metadata: value 2: Input should be a valid"),
        ({"metadata": {"note": "x" * 1025}}, "metadata: note: at most 1024 bytes of UTF-8"),
        ({"signals": ["bulk", 5]}, "signals.1: Input should be a valid string"),
        (
            {"attachments": [{"content_type": "image/png", "url": "https://x"}, {"url": "x"}]},
            "attachments.1.content_type: Field required",
        ),
        (
            {"sent_at": {"__type__": "datetime", "__value__": "2026-11-22T20:15:00"}},
            "sent_at: give RFC 3339 with an offset",
        ),
    ],
)
def test_the_key_or_the_position_of_a_fault_is_named(fields: dict[str, Any], detail: str) -> None:
    refused = refusal(VALID["bare"] | fields)
    assert refused is not None
    assert str(refused).startswith(detail)


def test_an_aware_datetime_of_celerys_json_is_a_time() -> None:
    sent_at = datetime(2026, 11, 22, 20, 15, tzinfo=UTC)
    envelope = json.loads(dumps(VALID["bare"] | {"sent_at": sent_at}))
    assert envelope["sent_at"]["__type__"] == "datetime"
    assert parse_envelope(envelope) == parse_envelope(VALID["bare"] | {"sent_at": sent_at})


def test_every_fixture_beyond_the_schema_exists() -> None:
    assert set().union(*BEYOND_THE_SCHEMA.values()) <= set(INVALID)


@given(envelopes())
def test_the_schema_takes_what_the_worker_takes_and_the_differences_are_listed(
    document: dict[str, Any],
) -> None:
    refused = refusal(document)
    if refused is None:
        SCHEMA.validate(document)
    elif SCHEMA.is_valid(document):
        assert any(kind in str(refused) for kind in BEYOND_THE_SCHEMA), str(refused)


@given(envelopes())
def test_a_refusal_quotes_nothing_of_the_envelope(document: dict[str, Any]) -> None:
    """The words differ with the field and the rule only: the same fault, the same words."""
    refused = refusal(document)
    if refused is not None:
        assert str(refused).isascii()
        assert "\n" not in str(refused)


def test_the_schema_is_one_of_draft_2020_12() -> None:
    Draft202012Validator.check_schema(schema())
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_command_prints_the_schema(tmp_path: Path) -> None:
    said = invoke("schema", "envelope", env={"SANDBOX_DIR": str(tmp_path / "none")})
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout) == schema()


class Receive:
    def run(self, envelope: object) -> None: ...


@pytest.mark.parametrize("file", WIRE, ids=lambda file: file.stem)
def test_the_bytes_of_every_kind_of_producer_are_read_and_hide_what_was_written(file: Path) -> None:
    gate = EntryGate(tasks=lambda: {"messages.receive": Receive()}, accepts={"inbound": _RECEIVE})
    message = gate.admit(file.read_bytes(), queue="inbound", priority=0)
    assert message["headers"]["task"] != DEAD_LETTER_TASK
    assert message["headers"]["argsrepr"] == message["headers"]["kwargsrepr"] == HIDDEN
    args, kwargs, _ = message.payload
    assert (args, kwargs) == ([], {"envelope": VALID["full"]})
    assert "Ada" not in json.dumps({**message, "body": ""})


def test_a_list_in_one_task_is_read_too() -> None:
    gate = EntryGate(tasks=lambda: {"messages.receive": Receive()}, accepts={"inbound": _RECEIVE})
    raw = (FIXTURES / "lists" / "python_client.bin").read_bytes()
    args, kwargs, _ = gate.admit(raw, queue="inbound", priority=0).payload
    assert (args, kwargs) == ([], {"envelope": [VALID["bare"], VALID["full"]]})


def test_the_python_client_hides_what_was_written_in_the_headers_it_sends() -> None:
    entry = json.loads((FIXTURES / "wire" / "python_client.bin").read_bytes())
    assert b"Ada" in base64.b64decode(entry.pop("body"))
    assert "Ada" not in json.dumps(entry)


_RECEIVE = {"messages.receive"}
