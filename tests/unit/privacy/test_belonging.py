"""Whose bytes are: of everything that was ever found on a queue, and of what lies broken here."""

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from worker.domain.messages import ChannelAddress
from worker.domain.routing import ChannelKind, ChannelPolicy
from worker.handlers.privacy.ownership import Ownership

ENTRIES = Path(__file__).parents[2] / "fixtures" / "redis_entries"
ANNA = ChannelAddress(channel="web", recipient="", address="Änna+1@example.org", thread="")


def envelope(**fields: object) -> dict[str, object]:
    said = {"version": 1, "channel": "web", "user": ANNA.address, "message_id": "m", "text": "hi"}
    return {**said, **fields}


def body(content: object) -> bytes:
    return json.dumps([[], {"envelope": content}, {}]).encode()


def entry(content: bytes, **headers: object) -> bytes:
    return json.dumps(
        {
            "body": base64.b64encode(content).decode(),
            "headers": {"task": "messages.receive", **headers},
            "properties": {"body_encoding": "base64"},
        }
    ).encode()


def letter(content: bytes) -> bytes:
    return json.dumps(
        [[base64.b64encode(content).decode(), "not_json", "", "inbound"], {}, {}]
    ).encode()


GOOD = json.dumps(envelope()).encode()
WRONG = envelope(version=2)
THEIRS: dict[str, bytes] = {
    "an envelope": GOOD,
    "one with a field called body": json.dumps(envelope(body="x", properties={})).encode(),
    "in another normal form": json.dumps(envelope(user="A\u0308nna+1@example.org")).encode(),
    "a task's body": body(envelope()),
    "positional": json.dumps([[envelope()], {}, {}]).encode(),
    "an entry": entry(body(envelope())),
    "a note of an entry": json.dumps([json.loads(entry(body(envelope()))), "", "inbound"]).encode(),
    "an entry of protocol 1": entry(json.dumps({"kwargs": {"envelope": envelope()}}).encode()),
    "of another version": body(WRONG),
    "of another shape": body({"from": {"address": ANNA.address}}),
    "a letter": entry(letter(entry(body(WRONG)))),
    "compressed": entry(zlib.compress(body(envelope())), compression="application/x-gzip"),
    "an event of Telnyx": json.dumps(
        [[], {"event": {"data": {"payload": {"from": {"phone_number": ANNA.address}}}}}, {}]
    ).encode(),
    "cut off": body(envelope(text="t", version=2))[:-20],
    "cut off in base64": entry(body(WRONG))[:-1].replace(b'",', b'x",', 1) + b"}",
    "no JSON": f"user={ANNA.address}&text=hi".encode(),
    "escaped and cut off": json.dumps(WRONG).encode()[:-3],
}


def belongs(raw: bytes, who: ChannelAddress = ANNA) -> bool:
    return Ownership(who=who, policy=ChannelPolicy(name=who.channel))(raw)


@pytest.mark.parametrize("raw", THEIRS.values(), ids=THEIRS)
def test_what_names_a_person_is_found_whatever_it_is_wrapped_in(raw: bytes) -> None:
    assert belongs(raw)


def test_bytes_of_two_for_each_letter_are_read() -> None:
    mike = ChannelAddress(channel="sms", recipient="", address="+13125550001", thread="")
    raw = json.dumps({"user": mike.address}).encode("utf-16-le")
    assert belongs(raw, mike)
    assert not belongs(
        raw, ChannelAddress(channel="sms", recipient="", address="5550001", thread="")
    )


@pytest.mark.parametrize(
    "other",
    [
        {"address": "Änna+1@example.or"},
        {"address": "+1"},
        {"address": "a"},
    ],
)
@pytest.mark.parametrize("raw", THEIRS.values(), ids=THEIRS)
def test_it_is_nobody_elses(raw: bytes, other: dict[str, Any]) -> None:
    assert not belongs(raw, ChannelAddress(channel="web", recipient="", thread="", **other))


@pytest.mark.parametrize(
    "fields",
    [{"channel": "sms"}, {"recipient": "r"}, {"thread": "t"}, {"user": "b", "text": ANNA.address}],
)
def test_a_valid_envelope_of_somebody_else_is_left_alone(fields: dict[str, object]) -> None:
    assert not belongs(entry(body(envelope(**fields))))


def test_an_address_of_a_mailbox_is_compared_as_it_is_accepted() -> None:
    anna = ChannelAddress(channel="email", recipient="", address="anna@example.org", thread="")
    mine = json.dumps(envelope(channel="email", user="anna@EXAMPLE.org")).encode()
    policy = ChannelPolicy(name="email", kind="email")
    assert Ownership(who=anna, policy=policy)(mine)
    assert not Ownership(who=anna, policy=replace(policy, kind="other"))(mine)
    louder = json.dumps(envelope(channel="email", user="Anna@EXAMPLE.org")).encode()
    assert not Ownership(who=anna, policy=policy)(louder)
    assert Ownership(who=anna, policy=replace(policy, ignore_case=True))(louder)


@pytest.mark.parametrize(
    ("kind", "channel", "address"),
    [("telephone", "sms", "+13125550001"), ("email", "email", "anna@example.org")],
)
def test_what_another_channel_accepts_is_a_strangers_whatever_address_it_names(
    kind: ChannelKind, channel: str, address: str
) -> None:
    belongs = Ownership(
        who=ChannelAddress(channel=channel, recipient="", address=address, thread=""),
        policy=ChannelPolicy(name=channel, kind=kind),
    )
    alices = envelope(user="alice", metadata={"contact": address})
    assert not belongs(entry(body(alices)))
    assert belongs(entry(body({**alices, "channel": channel}))), "their own channel refuses `alice`"
    assert belongs(entry(body({**alices, "version": 2}))), "no channel can accept it"


@pytest.mark.parametrize("path", sorted(ENTRIES.glob("*.bin")), ids=lambda path: path.stem)
def test_no_bytes_raise_and_none_is_a_strangers(path: Path) -> None:
    assert not belongs(path.read_bytes())
