"""The mails of tests/fixtures/mails: the verdict on each, and the text that a model would get."""

import csv
from typing import Final

import pytest

from tests.support.databases import ROOT
from worker.channels.email.received import Received, open_mail
from worker.domain.email.mail import SmtpEnvelope
from worker.domain.routing import ChannelPolicy
from worker.domain.ways_out import MailDelivery

FOLDER: Final = ROOT / "tests" / "fixtures" / "mails"
PARENT: Final = (FOLDER / "parent.txt").read_text()
OPTIONS: Final = MailDelivery(
    addresses=("support@shop.example", "hilfe@shop.example"),
    forms=("wordpress@site.example", "noreply@forms.example"),
    authserv_id="mx.shop.example",
)
POLICY: Final = ChannelPolicy(name="email", delivery=OPTIONS)
LINES: Final = (FOLDER / "expected.tsv").read_text().splitlines()
ROWS: Final = list(csv.DictReader(LINES, delimiter="\t", quoting=csv.QUOTE_NONE))
UNREADABLE: Final = {"broken-300-parts"}
"""Too many parts: only their headers are read."""


def received(row: dict[str, str]) -> Received:
    envelope = SmtpEnvelope()
    if row["envelope"] != "-":
        sender, _, recipient = row["envelope"].rpartition(">")
        envelope = SmtpEnvelope(sender=sender, recipient=recipient)
    raw = (FOLDER / f"{row['name']}.eml").read_bytes()
    return open_mail(raw, POLICY, envelope).judged(PARENT)


def verdict(one: Received) -> str:
    found = one.verdict
    return "- - -" if found is None else f"{found.tier or 'none'} {found.outcome} {found.rule}"


def test_every_mail_has_an_expectation() -> None:
    assert {row["name"] for row in ROWS} == {file.stem for file in FOLDER.glob("*.eml")}
    assert len(ROWS) >= 150


def test_the_verdict_on_each_mail_is_as_expected() -> None:
    wrong = {
        row["name"]: (expected, found)
        for row in ROWS
        if (found := verdict(received(row)))
        != (expected := f"{row['tier']} {row['outcome']} {row['rule']}")
    }
    assert wrong == {}


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row["text"] != "~"], ids=lambda row: row["name"]
)
def test_the_new_text_of_a_mail_is_as_expected(row: dict[str, str]) -> None:
    expected = row["text"].replace("\\n", "\n").replace("\\\\", "\\")
    assert received(row).new.text == expected


def test_no_mail_is_given_up_but_those_made_for_it() -> None:
    assert {row["name"] for row in ROWS if "parts" in received(row).mail.cut} == UNREADABLE
