"""The envelope is found in whatever was kept of it."""

import base64
import json

import pytest

from worker.handlers.operate import NotReplayableError, envelope_in

ENVELOPE = {"version": 1, "user": "a", "body": "a field nobody knows"}
BODY = json.dumps([[], {"envelope": ENVELOPE}, {}])
ENTRY = {
    "body": base64.b64encode(BODY.encode()).decode(),
    "properties": {"body_encoding": "base64"},
}


@pytest.mark.parametrize(
    "kept", [BODY, json.dumps(ENTRY), json.dumps(ENVELOPE), json.dumps([[ENVELOPE], {}, {}])]
)
def test_an_entry_a_body_and_a_row_of_the_inbox_hold_an_envelope(kept: str) -> None:
    assert envelope_in(kept.encode()) == ENVELOPE


@pytest.mark.parametrize("kept", [b"", b"\xff", b"[1]", b"{}", b"[" * 200_000, b'{"body": "!"}'])
def test_bytes_without_one_are_refused_and_nothing_else_happens(kept: bytes) -> None:
    with pytest.raises(NotReplayableError):
        envelope_in(kept)
