"""Rules that a single mail does not show, and who is let through."""

from dataclasses import replace
from typing import Final

import pytest

from worker.channels.email.parse import parse_mail
from worker.domain.email.person import writer
from worker.domain.screening.mail.rules import RULES, Circumstances
from worker.domain.screening.mail.screen import screen_mail
from worker.domain.screening.rules import SIGNALS
from worker.domain.ways_out import MailDelivery

OURS: Final = MailDelivery(addresses=("support@shop.example",))
TEXT: Final = Circumstances(new_text="Where is my order?")


def verdict(
    headers: str = "",
    by: MailDelivery = OURS,
    facts: Circumstances = TEXT,
    sender: str = "ada@x.org",
) -> tuple[str | None, str] | None:
    head = f"From: {sender}\nTo: support@shop.example\n{headers}"
    found = screen_mail(parse_mail(f"{head}\n\nhi\n".encode()), by, facts)
    return found and (found.tier, found.rule)


def test_the_table_has_all_seventeen_rules() -> None:
    assert {rule.number for rule in RULES} == set(range(1, 18))
    assert len({rule.name for rule in RULES}) == len(RULES)
    tiers = [rule.tier for rule in RULES]
    assert tiers == sorted(tiers), "hard rules first"


def test_every_outcome_is_a_signal_that_accepting_knows() -> None:
    contents = {"calendar", "encrypted", "empty", "opt_out"}
    assert {rule.outcome for rule in RULES} | contents <= SIGNALS.keys()


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, None),
        ({"same_text": True}, ("soft", "repeated")),
        ({"since_reply_s": 2.9}, ("soft", "repeated")),
        ({"since_reply_s": 3.0}, None),
        ({"replies_to_address": 9}, None),
        ({"replies_to_address": 10}, ("hard", "rate")),
        ({"replies_to_domain": 100}, ("hard", "rate")),
        ({"own_id": True}, ("hard", "own_mail")),
    ],
)
def test_what_happened_before_counts(facts: dict[str, object], expected: object) -> None:
    assert verdict(facts=replace(TEXT, **facts)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("allowed", ["ada@x.org", "x.org"])
def test_an_allowed_sender_passes_soft_rules_and_no_hard_one(allowed: str) -> None:
    by = replace(OURS, allow=(allowed,))
    assert verdict("List-Id: <a>") == ("soft", "list")
    assert verdict("List-Id: <a>", by) is None
    assert verdict("List-Id: <a>\nAuto-Submitted: auto-replied", by) == ("hard", "auto_submitted")


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ("mx.shop.example; dmarc=pass", None),
        ("mx.shop.example; spf=pass", ("hard", "dmarc_required")),
        ("mx.evil.example; dmarc=pass", ("hard", "dmarc_required")),
        ("mx.shop.example.evil.example; dmarc=pass", ("hard", "dmarc_required")),
        ("(mx.shop.example;) mx.evil.example; dmarc=pass", ("hard", "dmarc_required")),
        ("mx.shop.example; x=y dmarc=pass", ("hard", "dmarc_required")),
    ],
)
def test_required_dmarc_is_that_of_our_server(results: str, expected: object) -> None:
    by = replace(OURS, authserv_id="MX.shop.example", require_dmarc=True)
    assert verdict(f"Authentication-Results: {results}", by) == expected


def test_without_a_server_of_ours_no_result_counts() -> None:
    assert verdict("Authentication-Results: mx.shop.example; dmarc=fail") is None


@pytest.mark.parametrize(
    ("headers", "who", "answer_to"),
    [
        ("From: a@x.org", "a@x.org", "a@x.org"),
        ("From: a@x.org\nReply-To: b@x.org", "a@x.org", "b@x.org"),
        ("From: a@mail.x.org\nReply-To: b@x.org", "a@mail.x.org", "b@x.org"),
        ("From: a@x.org\nReply-To: b@evilx.org", "a@x.org", "a@x.org"),
        ("From: a@x.org\nReply-To: support@shop.example", "a@x.org", "a@x.org"),
        ("From: form@site.example\nReply-To: b@y.org", "b@y.org", "b@y.org"),
        ("From: form@site.example", "form@site.example", "form@site.example"),
        ("From: other@site.example\nReply-To: b@y.org", *["other@site.example"] * 2),
    ],
)
def test_the_writer_is_from_unless_a_configured_form_says_otherwise(
    headers: str, who: str, answer_to: str
) -> None:
    found = writer(
        parse_mail(f"{headers}\n\nx".encode()), forms={"form@site.example"}, ours=OURS.addresses
    )
    assert found is not None
    assert (found.who.address, found.answer_to.address) == (who, answer_to)
