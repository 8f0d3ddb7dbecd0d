"""Mails that leave by SMTP: a real server that fails in each phase, and what each comes to."""

import json
import shlex
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.smtp_server import HANG_UP, SILENT, TOKEN, USER, Mailbox, smtp_server
from tests.support.tls_front import Certificate, make_certificate
from worker.channels.build import MailWay, build_channels
from worker.channels.email.delivery import pool
from worker.channels.email.delivery.smtp import SmtpChannel
from worker.domain.deliveries import (
    DeliveryOutcome,
    NotDelivered,
    OutgoingReply,
    Pause,
    Rejected,
    Sent,
    Unclear,
)
from worker.domain.email.mail import AnsweredMail
from worker.domain.email.marks import delivery_of_bounce, delivery_of_id
from worker.domain.email.server import SMTP_PORTS, parse_server
from worker.domain.errors import DatabaseAwayError, SettingsError
from worker.domain.ids import ChannelUserId, DeliveryId
from worker.domain.messages import ChannelAddress
from worker.domain.ways_out import MailDelivery

KEY = b"k" * 32
ADDRESS = "ada@example.org"
ANSWERED = AnsweredMail(
    message_id="<q2@example.org>",
    root="<q1@example.org>",
    refs=("<q1@example.org>", "<q2@example.org>"),
    subject="AW: Offen am Sonntag?",
    reply_to=None,
    from_name="Ada Ö.",
)


BUILT: list[SmtpChannel] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while BUILT:
        BUILT.pop().pool.close()


def build(
    url: str,
    *,
    environ: dict[str, str] | None = None,
    answered: AnsweredMail | None = ANSWERED,
    token_command: str | None = None,
    patience_s: float = 0.2,
) -> SmtpChannel:
    options = MailDelivery(addresses=("help@acme.example",), name="Acme")
    way = MailWay(
        answered=lambda _: answered, key=lambda: KEY, smtp_url=url, token_command=token_command
    )
    channel = build_channels({"email": options}, lambda *_: None, environ or {}, mail=way)["email"]
    assert isinstance(channel, SmtpChannel)
    object.__setattr__(channel, "deadline_s", 1.0)
    object.__setattr__(channel, "answer_s", 0.3)
    channel.pool.patience_s = patience_s
    BUILT.append(channel)
    return channel


def reply(
    channel: SmtpChannel, text: str = "Yes.\n.dot\n", address: str = ADDRESS
) -> OutgoingReply:
    made = OutgoingReply(
        delivery_id=DeliveryId(4711),
        user_id=ChannelUserId(1),
        idempotency_key=uuid4(),
        to=ChannelAddress(
            channel="email", recipient="help@acme.example", address=address, thread="t"
        ),
        text=text,
        message_ids=("<q2@example.org>",),
        metadata={},
        created_at=datetime(2026, 11, 30, tzinfo=UTC),
    )
    (piece,) = channel.compose(made)
    return replace(made, request=piece.request)


@contextmanager
def served(box: Mailbox, **more: bool) -> Iterator[SmtpChannel]:
    with smtp_server(box, **more) as port:  # type: ignore[arg-type]
        yield build(f"smtp://127.0.0.1:{port}?plain=true")


def attempt(answers: dict[str, list[str]]) -> tuple[DeliveryOutcome, Mailbox]:
    box = Mailbox(answers=answers)
    with served(box) as channel:
        return channel.deliver(reply(channel)), box


def test_a_mail_arrives_as_it_was_written_once_with_headers_that_keep_the_thread() -> None:
    box = Mailbox()
    with served(box) as channel:
        first = reply(channel)
        assert channel.deliver(first) == Sent(provider_id="4Zq1X")
        assert reply(channel).request == first.request
    ((envelope,), (mail,)) = box.mails, box.parsed()
    assert envelope.rcpt_tos == [ADDRESS]
    assert delivery_of_bounce(envelope.mail_from or "", KEY) == 4711
    assert delivery_of_id(mail["Message-ID"], KEY) == 4711
    assert mail["From"] == "Acme <help@acme.example>"
    assert mail["To"].addresses[0].display_name == "Ada Ö."
    assert mail["Subject"] == "Re: Offen am Sonntag?"
    assert (mail["In-Reply-To"], mail["References"]) == (
        "<q2@example.org>",
        "<q1@example.org> <q2@example.org>",
    )
    assert mail["Auto-Submitted"] == "auto-replied"
    plain = mail.get_body(("plain",))
    assert plain is not None
    assert plain.get_content().splitlines() == ["Yes.", ".dot"]
    assert json.loads(first.request or "")["mail"].encode() == envelope.content


def test_who_writes_first_writes_without_a_thread() -> None:
    box = Mailbox()
    with smtp_server(box) as port:
        channel = build(f"smtp://127.0.0.1:{port}?plain=true", answered=None)
        assert isinstance(channel.deliver(reply(channel)), Sent)
    (mail,) = box.parsed()
    assert (mail["Subject"], mail["In-Reply-To"], mail["References"]) == ("Acme", None, None)


@pytest.mark.parametrize("phase", ["EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("fault", [SILENT, HANG_UP])
def test_what_fails_before_the_end_was_certainly_not_delivered(phase: str, fault: str) -> None:
    outcome, box = attempt({phase: [fault]})
    assert isinstance(outcome, NotDelivered)
    assert outcome.pause == Pause(scope="channel", seconds=30)
    assert not box.mails


@pytest.mark.parametrize("fault", [SILENT, HANG_UP])
def test_silence_after_the_end_is_unclear(fault: str) -> None:
    outcome, box = attempt({"end": [fault]})
    assert isinstance(outcome, Unclear)
    assert outcome.reason.startswith("smtp: no answer after the mail")
    assert len(box.mails) == 1


@pytest.mark.parametrize("phase", ["MAIL", "RCPT", "DATA", "end"])
@pytest.mark.parametrize("answer", ["421 4.3.2 x", "450 4.2.0 ada@example.org grey", "451 later"])
def test_greylisting_waits_for_minutes(phase: str, answer: str) -> None:
    outcome, _ = attempt({phase: [answer]})
    assert isinstance(outcome, NotDelivered)
    assert outcome.retry_after_s == 300
    assert outcome.pause is None
    assert "ada" not in outcome.reason


@pytest.mark.parametrize(
    ("phase", "answer", "gone"),
    [
        ("RCPT", "550 5.1.1 <ada@example.org> nobody", True),
        ("RCPT", "550 5.1.10 null MX", True),
        ("RCPT", "553 5.1.3 syntax", True),
        ("RCPT", "550 5.2.1 disabled", True),
        ("RCPT", "550 5.7.1 not from you", False),
        ("RCPT", "552 5.2.2 full", False),
        ("RCPT", "550 nobody", False),
        ("end", "550 5.1.1 nobody", True),
        ("end", "552 5.3.4 too big", False),
        ("end", "554 5.7.1 looks like spam", False),
    ],
)
def test_a_refusal_for_good_and_whether_the_address_is_gone(
    phase: str, answer: str, gone: bool
) -> None:
    outcome, _ = attempt({phase: [answer]})
    assert isinstance(outcome, Rejected)
    assert outcome.gone is gone
    assert outcome.reason.split()[0] == "smtp"
    assert "ada" not in outcome.reason


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"MAIL": ["550 5.7.1 no such sender"]}, "smtp MAIL 550 5.7.1"),
        ({"EHLO": ["554 no service"]}, "smtp EHLO 554"),
    ],
)
def test_what_is_about_us_holds_back_the_channel(
    answers: dict[str, list[str]], reason: str
) -> None:
    outcome, _ = attempt(answers)
    assert outcome == NotDelivered(reason=reason, pause=Pause(scope="channel", seconds=300))


def test_nobody_listens() -> None:
    with smtp_server(Mailbox()) as port:
        channel = build(f"smtp://127.0.0.1:{port}?plain=true")
    outcome = channel.deliver(reply(channel))
    assert outcome == NotDelivered(
        reason="smtp: IncompleteAnswerError", pause=Pause(scope="channel", seconds=30)
    )


def test_one_connection_carries_several_mails_and_one_that_the_server_closed_is_replaced() -> None:
    box = Mailbox()
    with served(box) as channel:
        for _ in range(3):
            assert isinstance(channel.deliver(reply(channel)), Sent)
        assert box.connections == 1
        box.answers["RSET"] = [HANG_UP]
        assert isinstance(channel.deliver(reply(channel)), Sent)
    assert (box.connections, len(box.mails)) == (2, 4)


def test_after_a_refused_recipient_the_next_mail_takes_the_same_connection() -> None:
    box = Mailbox(answers={"RCPT": ["550 5.1.1 no", ""]})
    with served(box) as channel:
        assert isinstance(channel.deliver(reply(channel)), Rejected)
        assert isinstance(channel.deliver(reply(channel)), Sent)
    assert (box.connections, len(box.mails)) == (1, 1)


@pytest.mark.parametrize(("name", "limit"), [("MAX_MAILS", 1), ("MAX_AGE_S", 0.0)])
def test_a_connection_is_not_used_for_ever(
    monkeypatch: pytest.MonkeyPatch, name: str, limit: float
) -> None:
    monkeypatch.setattr(pool, name, limit)
    box = Mailbox()
    with served(box) as channel:
        channel.deliver(reply(channel))
        channel.deliver(reply(channel))
    assert box.connections == 2


def test_a_silent_server_holds_four_threads_and_no_fifth() -> None:
    box = Mailbox(answers={"end": [SILENT]})
    with served(box) as channel:
        object.__setattr__(channel, "answer_s", 1.5)
        outcomes: list[DeliveryOutcome] = []
        threads = [
            threading.Thread(target=lambda: outcomes.append(channel.deliver(reply(channel))))
            for _ in range(6)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    busy = [one for one in outcomes if isinstance(one, NotDelivered)]
    assert len(busy) == 2
    assert {(one.reason, one.retry_after_s) for one in busy} == {
        ("smtp: all connections are busy", 5)
    }
    assert len(box.mails) == 4


def test_if_the_end_cannot_be_noted_the_server_drops_the_mail() -> None:
    box = Mailbox()

    def note() -> None:
        raise DatabaseAwayError("gone")

    with served(box) as channel:
        with pytest.raises(DatabaseAwayError):
            channel.deliver_in_phases(reply(channel), note)
        assert isinstance(channel.deliver(reply(channel)), Sent)
    assert (box.connections, len(box.mails)) == (2, 1)


@pytest.mark.parametrize(
    ("host", "answer", "wanted"),
    [
        (
            "email-smtp.eu-west-1.amazonaws.com",
            "250 Ok 0102018f-a1b2c3d4-1111-2222-3333-000000",
            "<0102018f-a1b2c3d4-1111-2222-3333-000000@eu-west-1.amazonses.com>",
        ),
        (
            "email-smtp.us-east-1.amazonaws.com",
            "250 Ok 0100018f-a1b2c3d4-1111-2222-3333-000000",
            "<0100018f-a1b2c3d4-1111-2222-3333-000000@email.amazonses.com>",
        ),
        ("mail.example", "250 Ok 0100018f-a1b2c3d4-1111-2222-3333-000000", None),
        ("smtp.office365.com", "250 2.0.0 OK <x@y> [Hostname=z]", None),
        ("smtp.office365.com", "250 2.6.0 <x@y.prod> [InternalId=1] Queued", "<x@y.prod>"),
    ],
)
def test_the_id_that_a_relay_gives_a_mail_is_learnt(
    host: str, answer: str, wanted: str | None
) -> None:
    box = Mailbox(answers={"end": [answer]})
    with served(box) as channel:
        object.__setattr__(channel, "host", host)
        outcome = channel.deliver(reply(channel))
    assert isinstance(outcome, Sent)
    assert outcome.message_id == wanted


def test_an_address_with_other_letters_leaves_only_where_that_is_offered() -> None:
    box = Mailbox()
    with served(box) as channel:
        assert isinstance(channel.deliver(reply(channel, address="жанна@example.org")), Sent)
    assert box.mails[0].rcpt_tos == ["жанна@example.org"]
    with served(Mailbox(), utf8=False) as channel:
        outcome = channel.deliver(reply(channel, address="жанна@example.org"))
        assert isinstance(outcome, Rejected)
        assert "жанна" not in outcome.reason
        assert isinstance(channel.deliver(reply(channel)), Sent)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("smtp"))


def _context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    return context


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_with_tls_it_logs_in_and_without_trust_it_does_not(
    certificate: Certificate, scheme: str
) -> None:
    box, context = Mailbox(), _context(certificate)
    more = {"tls" if scheme == "smtps" else "starttls": context}
    with smtp_server(box, **more) as port:  # type: ignore[arg-type]
        url = f"{scheme}://{USER.replace('@', '%40')}:secret@localhost:{port}"
        trusting = build(url, environ={"SSL_CERT_FILE": str(certificate.cert)})
        assert isinstance(trusting.deliver(reply(trusting)), Sent)
        strict = build(url)
        assert isinstance(strict.deliver(reply(strict)), NotDelivered)
        wrong = build(
            url.replace("secret", "w%C3%A4rong"),
            environ={"SSL_CERT_FILE": str(certificate.cert)},
        )
        outcome = wrong.deliver(reply(wrong))
    assert box.encrypted == [True]
    assert box.users[0] == USER
    assert isinstance(outcome, NotDelivered)
    assert outcome.pause == Pause(scope="channel", seconds=300)
    assert "rong" not in outcome.reason


def test_a_password_never_leaves_without_tls() -> None:
    box = Mailbox()
    with smtp_server(box) as port:
        channel = build(f"smtp://u:secret@localhost:{port}")
        outcome = channel.deliver(reply(channel))
    assert outcome == NotDelivered(
        reason="smtp: the server offers no STARTTLS", pause=Pause(scope="channel", seconds=300)
    )
    assert not box.users


Program = Callable[[str], str]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    def write(code: str) -> str:
        (tmp_path / "token.py").write_text(code)
        return shlex.join([sys.executable, str(tmp_path / "token.py")])

    return write


def test_a_token_comes_from_a_command(certificate: Certificate, program: Program) -> None:
    box = Mailbox()
    with smtp_server(box, tls=_context(certificate)) as port:
        url = f"smtps://{USER.replace('@', '%40')}@localhost:{port}"
        trust = {"SSL_CERT_FILE": str(certificate.cert)}
        good = build(url, environ=trust, token_command=program(f"print({TOKEN!r})"))
        assert isinstance(good.deliver(reply(good)), Sent)
        old = build(url, environ=trust, token_command=program("print('old')"))
        outcome = old.deliver(reply(old))
        none = build(url, environ=trust, token_command=program("print('no'); exit(3)"))
        failed = none.deliver(reply(none))
    assert isinstance(outcome, NotDelivered)
    assert outcome.reason == "smtp AUTH 535 5.7.8"
    assert failed == NotDelivered(
        reason="token command: exit 3, 2 characters", pause=Pause(scope="channel", seconds=300)
    )


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("imap://u:secret@host", "give smtp:// or smtps://"),
        ("smtp://", "give smtp://"),
        ("smtp://u:secret@host:port", "give smtp://"),
        ("smtp://u:secret@host?plain=true", "the only option is"),
        ("smtps://127.0.0.1?plain=true", "the only option is"),
        ("smtp://127.0.0.1?tls=no", "the only option is"),
    ],
)
def test_a_url_that_leads_nowhere_is_not_quoted(url: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as caught:
        parse_server(url, SMTP_PORTS)
    assert "secret" not in str(caught.value)


def test_a_url_is_read() -> None:
    server = parse_server("smtp://help%40acme.example:p%40ss@mail.example", SMTP_PORTS)
    assert (server.host, server.port, server.tls, server.plain) == (
        "mail.example",
        587,
        False,
        False,
    )
    assert (server.user, server.password) == (USER, "p@ss")
    assert "p@ss" not in repr(server)
    assert parse_server("smtps://mail.example", SMTP_PORTS).port == 465


def test_without_a_server_the_worker_does_not_start() -> None:
    with pytest.raises(SettingsError, match=r"channels\.email\.driver: set SMTP_URL"):
        build_channels(
            {"email": MailDelivery(addresses=("help@acme.example",))},
            lambda *_: None,
            {},
            mail=MailWay(
                answered=lambda _: None, key=lambda: KEY, smtp_url=None, token_command=None
            ),
        )
