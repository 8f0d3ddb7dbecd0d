"""Bytes to a mail: it never raises, and what is large is bounded."""

import base64
import random
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from tests.support.databases import ROOT
from worker.channels.email.bounds import SMALL
from worker.channels.email.headers import addresses, ids
from worker.channels.email.parse import parse_mail
from worker.channels.email.parts import MAX_PICTURES
from worker.channels.email.received import open_mail
from worker.domain.email.mail import Address
from worker.domain.routing import ChannelPolicy

FILES = sorted((ROOT / "tests" / "fixtures" / "mails").glob("*.eml"))
HEAD = b"From: ada@example.org\nTo: support@shop.example\nSubject: Re: x\nIn-Reply-To: <a@b>\n"


@pytest.mark.parametrize("seed", range(4))
def test_damaged_mails_are_read_as_far_as_they_can_be(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    for file in chance.sample(FILES, 100):
        raw = bytearray(file.read_bytes())
        for _ in range(chance.randint(1, 30)):
            at = chance.randrange(len(raw) + 1)
            raw[at : at + chance.randint(0, 20)] = chance.randbytes(chance.randint(0, 12))
        one = open_mail(bytes(raw), ChannelPolicy(name="email")).judged(
            "Hello, your order is on its way."
        )
        texts = (one.text, one.mail.subject, one.mail.message_id, one.mail.html)
        assert not any("\0" in text for text in texts)
        assert all(text.encode() for text in (*texts, "x") if text), "no half surrogates"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Ada <ada@Example.ORG>", [Address("ada@example.org", "Ada")]),
        ('"Lovelace, Ada" <ada@example.org>', [Address("ada@example.org", "Lovelace, Ada")]),
        ('"bank@example.com" <ada@example.org>', [Address("ada@example.org", "bank@example.com")]),
        ("ada@example.org (Ada)", [Address("ada@example.org")]),
        ("a@b.c, d@e.f;g@h.i", [Address("a@b.c"), Address("d@e.f"), Address("g@h.i")]),
        ("Friends: a@b.c, d@e.f;", [Address("a@b.c"), Address("d@e.f")]),
        ("<a@b.c> <d@e.f>", [Address("a@b.c")]),
        ("undisclosed-recipients:;", []),
        ("<>", []),
        ("Ada <ada love@example.org>", []),
        ("Ada ada@example.org", []),
        ("", []),
    ],
)
def test_addresses_are_read_and_never_guessed(written: str, read: list[Address]) -> None:
    assert list(addresses([written])) == read


def test_ids_are_read_from_words_and_folds_and_long_ones_are_shortened() -> None:
    assert ids(["Your mail of Monday <a@b>\n <c\n d@e>"]) == ("<a@b>", "<cd@e>")
    assert ids(["bare@example.org"]) == ("<bare@example.org>",)
    assert ids(["<>", "< >", "", "words only"]) == ()
    (long,) = ids([f"<{'a' * 2000}@b>"])
    assert long.endswith("@long.invalid>")
    assert ids([f"<{'a' * 2000}@b>"]) == (long,), "the same each time"
    many = ids([" ".join(f"<{n}@b>" for n in range(300))])
    assert (len(many), many[0], many[-1]) == (100, "<0@b>", "<299@b>")


def test_a_mail_without_an_id_gets_one_from_its_bytes() -> None:
    raw = HEAD + b"\nhello\n"
    assert parse_mail(raw).message_id == f"<{sha256(raw).hexdigest()}@missing.invalid>"
    assert parse_mail(raw + b"x").message_id != parse_mail(raw).message_id


def test_dates_without_a_zone_are_utc() -> None:
    for written, hour in (("10:15:00 +0200", 8), ("10:15:00 -0000", 10), ("10:15:00", 10)):
        mail = parse_mail(HEAD + f"Date: Mon, 2 Nov 2026 {written}\n\nx".encode())
        assert mail.sent_at is not None
        assert mail.sent_at.astimezone(UTC) == datetime(2026, 11, 2, hour, 15, tzinfo=UTC)


def mixed(*parts: bytes) -> bytes:
    body = b"".join(b"--b\n" + part + b"\n" for part in parts)
    return HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n" + body + b"--b--\n"


def attached(kind: str, data: bytes) -> bytes:
    encoded = base64.encodebytes(data)
    head = f"Content-Type: {kind}; name=a\nContent-Transfer-Encoding: base64\n\n"
    return head.encode() + encoded


def test_pictures_are_kept_and_other_attachments_only_mentioned() -> None:
    picture, large = b"\x89PNG" * 25_000, b"\xff\xd8" * MAX_PICTURES
    mail = parse_mail(
        mixed(
            attached("image/png", picture),
            attached("application/pdf", b"%PDF"),
            attached("image/jpeg", large),
            b"\nWhat is this?",
        )
    )
    assert mail.plain.strip() == "What is this?"
    assert [one.data for one in mail.attachments] == [picture, None, None]
    assert mail.attachments[1].size == 4
    assert mail.attachments[2].size == pytest.approx(len(large), rel=0.02)


def test_text_behind_a_large_attachment_is_read() -> None:
    mail = parse_mail(
        mixed(b"\nfirst", attached("application/zip", b"PK" * SMALL), b"\nWhat is this?")
    )
    assert mail.plain.split() == ["first", "What", "is", "this?"]
    assert mail.attachments[0].size == pytest.approx(2 * SMALL, rel=0.02)
    assert "size" in mail.cut


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\n" * 100_000,
        HEAD + b"Content-Type: message/rfc822\n\n" * 20_000,
        b"X-Long: " + b"(" * 400_000 + b"\n" + HEAD + b"\nhello",
        HEAD + b"\n" + b"On \n" * 16_000,
        HEAD + b"\n" + b"From: a@b\n" * 1400,
        HEAD + b"\n" + (b"<@" * 900 + b"\n") * 35,
        HEAD + b"Content-Type: text/html\n\n" + b"<!--" * 60_000,
        HEAD + b"Content-Type: text/html\n\n" + b"<b>" * 20_000 + b"</i>" * 16_000,
    ],
)
def test_a_mail_made_to_cost_time_costs_little(raw: bytes) -> None:
    one = open_mail(raw, ChannelPolicy(name="email")).judged("Hello")
    assert len(one.text.encode()) <= 65_536


def test_a_text_of_html_fits_into_an_envelope() -> None:
    raw = HEAD + b"Content-Type: text/html\n\n<p>" + "ü".encode() * 100_000 + b"</p>"
    one = open_mail(raw, ChannelPolicy(name="email")).judged()
    assert 48_000 < len(one.text.encode()) <= 65_536
    assert one.text.endswith("[the mail was longer]")
