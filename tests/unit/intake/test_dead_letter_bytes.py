"""The envelope is found in whatever was kept of it."""

import base64
import json
import zlib

import pytest

from worker.queue.unwrap import envelope_in

ENVELOPE = {"version": 1, "user": "a", "body": "a field nobody knows"}
BODY = json.dumps([[], {"envelope": ENVELOPE}, {}])
ENTRY = {
    "body": base64.b64encode(BODY.encode()).decode(),
    "properties": {"body_encoding": "base64"},
}
COMPRESSED = ENTRY | {
    "body": base64.b64encode(zlib.compress(BODY.encode())).decode(),
    "headers": {"compression": "application/x-gzip"},
}
LETTER = json.dumps(
    [[base64.b64encode(json.dumps(ENTRY).encode()).decode(), "", "", "inbound"], {}, {}]
)


@pytest.mark.parametrize(
    "kept",
    [
        BODY,
        json.dumps(ENTRY),
        json.dumps(ENVELOPE),
        json.dumps([[ENVELOPE], {}, {}]),
        json.dumps(COMPRESSED),
        LETTER,
        json.dumps([ENTRY, "", "inbound"]),
        json.dumps({"kwargs": {"envelope": ENVELOPE}}),
    ],
)
def test_an_entry_a_body_and_a_row_of_the_inbox_hold_an_envelope(kept: str) -> None:
    assert envelope_in(kept.encode()) == ENVELOPE


@pytest.mark.parametrize("kept", [b"", b"\xff", b"[1]", b"{}", b"[" * 200_000, b'{"body": "!"}'])
def test_bytes_without_one_are_refused_and_nothing_else_happens(kept: bytes) -> None:
    with pytest.raises(LookupError):
        envelope_in(kept)


def test_an_envelope_without_a_version_is_found_so_that_its_fault_can_be_named() -> None:
    assert envelope_in(b'[[], {"envelope": {"user": "a"}}, {}]') == {"user": "a"}
