"""The bytes of our replies."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.channels.email.outgoing import OutgoingMail, mail_bytes
from worker.channels.email.parse import parse_mail
from worker.channels.email.received import open_mail
from worker.domain.email.mail import Address
from worker.domain.routing import ChannelPolicy
from worker.domain.ways_out import MailDelivery

REPLY: Final = OutgoingMail(
    message_id="<1.abc@shop.example>",
    sender=Address("support@shop.example", "The shop (AI assistant)"),
    to=Address("ada@example.org", "Ada"),
    subject="Re: Größe",
    text="Hello **Ada**,\n\n.a dot\nFrom here: [link](https://shop.example)\n\n- one\n- two\n",
    date=datetime(2026, 11, 2, 9, 0, tzinfo=UTC),
    in_reply_to="<q@example.org>",
    references=("<root@example.org>", "<q@example.org>"),
)


def test_the_same_reply_is_the_same_bytes() -> None:
    assert mail_bytes(REPLY) == mail_bytes(replace(REPLY))
    assert mail_bytes(REPLY) != mail_bytes(replace(REPLY, text="Hello"))


def test_it_says_that_a_machine_has_written_it() -> None:
    mail = parse_mail(mail_bytes(REPLY))
    assert mail.header("auto-submitted") == "auto-replied"
    assert mail.header("x-auto-response-suppress") == "all"
    assert "precedence" not in mail.headers


def test_two_of_our_responders_stop_at_once() -> None:
    other = MailDelivery(addresses=("ada@example.org",))
    verdict = (
        open_mail(mail_bytes(REPLY), ChannelPolicy(name="email", delivery=other)).judged().verdict
    )
    assert verdict is not None
    assert (verdict.tier, verdict.rule) == ("hard", "auto_submitted")
    ours = MailDelivery(addresses=("support@shop.example",))
    again = open_mail(mail_bytes(REPLY), ChannelPolicy(name="email", delivery=ours)).judged()
    assert again.verdict is not None
    assert again.verdict.tier == "hard"


def test_markdown_is_html_and_markup_of_the_model_is_text() -> None:
    made = "<script>x</script>\n![p](https://t/p.png)\n[a](javascript:b)"
    mail = parse_mail(mail_bytes(replace(REPLY, text=f"{REPLY.text}{made}")))
    assert "<strong>Ada</strong>" in mail.html
    assert "&lt;script&gt;" in mail.html
    assert "<img" not in mail.html, "a picture would be loaded by who reads the mail"
    assert 'href="javascript' not in mail.html
    assert mail.plain.startswith("Hello **Ada**,\n\n.a dot\nFrom here")


def test_long_ids_stay_whole() -> None:
    long = f"<{'i' * 980}@example.org>"
    raw = mail_bytes(replace(REPLY, in_reply_to=long, references=(long,) * 3))
    assert parse_mail(raw).in_reply_to == (long,)
    assert max(map(len, raw.split(b"\r\n"))) <= 998


_TEXT = st.text(max_size=200)


@settings(max_examples=40, deadline=None)
@given(subject=_TEXT, name=_TEXT, text=_TEXT)
def test_any_text_arrives_and_none_becomes_a_header(subject: str, name: str, text: str) -> None:
    made = replace(REPLY, subject=subject, text=text, sender=Address("a@b.example", name))
    raw = mail_bytes(made)
    head = raw.partition(b"\r\n\r\n")[0]
    assert re.sub(rb"\r\n", b"", raw).find(b"\n") == -1
    assert all(len(line) <= 78 for line in head.split(b"\r\n"))
    assert head.isascii()
    names = [line.partition(b":")[0] for line in head.split(b"\r\n") if line[:1] not in b" \t"]
    assert len(names) == len(set(names)) == 12
    mail = parse_mail(raw)
    assert mail.sender is not None
    assert mail.sender.address == "a@b.example"
    shown = "".join(one if one.isprintable() else " " for one in subject)
    assert mail.subject.split() == shown.split()


@pytest.mark.parametrize("text", ["Привет", "你好" * 300, "a" * 3000, "x\r\ny", "=20"])
def test_the_plain_text_arrives_as_written(text: str) -> None:
    raw = mail_bytes(replace(REPLY, text=text))
    assert parse_mail(raw).plain.strip("\n") == text.replace("\r\n", "\n")
    assert max(map(len, raw.split(b"\r\n"))) <= 78
