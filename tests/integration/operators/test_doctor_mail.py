"""`worker doctor` on e-mail: each fault of the server or of the setup is found, with its fix."""

import ssl
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.mails import mail_of, smtp
from tests.support.smtp_server import TOKEN, USER, Mailbox, smtp_server
from tests.support.tls_front import Certificate, make_certificate
from tests.support.world import World
from worker.bootstrap.mail import build_take_mail
from worker.bootstrap.reports import open_database
from worker.cli.doctor.doctor import MAIL_BY_SMTP
from worker.cli.doctor.examine import Check, Setup, examine
from worker.config.agents_file import load_agents
from worker.domain.reports.finding import Finding, Level

CHECKS = tuple(Check(one.group, one.name, one.look) for one in MAIL_BY_SMTP)
AUTHSERV = 'authserv_id = "mx.acme.example"\n'
ME = USER.replace("@", "%40")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def box() -> Mailbox:
    return Mailbox()


@pytest.fixture
def port(box: Mailbox, certificate: Certificate) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    with smtp_server(box, starttls=context) as port:
        yield port


@pytest.fixture
def trusted(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.cert))


def setup_of(world: World, mail: str = "", **settings: str) -> Setup:
    file = world.folder / "agents.toml"
    section = f'[channels.mail.mail]\naddresses = ["help@acme.example"]\n{mail}'
    file.write_text(f'[channels.mail]\ndriver = "smtp"\n{section}')
    routing, timing = load_agents(file)
    given = replace(world.settings(), **settings)  # type: ignore[arg-type]
    return Setup(settings=given, wrong={}, routing=routing, timing=timing)


def look(setup: Setup, name: str) -> Finding:
    (check,) = (one for one in CHECKS if one.name == name)
    return next(iter(examine((check,), setup)))


def test_the_login_is_the_workers_and_no_mail_leaves(
    world: World, box: Mailbox, port: int, trusted: None, tmp_path: Path
) -> None:
    found = look(setup_of(world, smtp_url=f"smtp://{ME}:secret@localhost:{port}"), "SMTP login")
    assert (found.level, found.found) == ("ok", "logged in, it takes mails from us, encrypted")
    token = tmp_path / "token"
    token.write_text(f'print("{TOKEN}")')
    by_token = {"smtp_token_command": f"{sys.executable} {token}"}
    url = f"smtp://{ME}@localhost:{port}"
    assert look(setup_of(world, smtp_url=url, **by_token), "SMTP login").level == "ok"
    assert box.mails == []
    assert set(box.seen) == {"EHLO", "MAIL", "RCPT", "RSET"}


REFUSED: dict[str, tuple[dict[str, list[str]], str, str, str]] = {
    f"smtp://{ME}:wrong@localhost": ({}, "fault", "login refused (AUTH 535", "app password"),
    f"smtps://{ME}:secret@localhost": ({}, "fault", "no TLS there", "port 465"),
    "smtp://localhost?ehlo": ({"EHLO": ["554 no"]}, "fault", "refused (EHLO 554)", "blocked"),
    "smtp://localhost?mail": ({"MAIL": ["553 no"]}, "fault", "us to us (553)", "bounce+"),
    "smtp://localhost?rcpt": ({"RCPT": ["550 no"]}, "fault", "us to us (550)", "bounce+"),
    "smtp://localhost?later": ({"RCPT": ["450 no"]}, "warning", "for now", "some minutes"),
}


@pytest.mark.parametrize("url", REFUSED)
def test_a_server_that_refuses_us_is_reported_with_the_fix(
    world: World, box: Mailbox, port: int, trusted: None, url: str
) -> None:
    answers, level, found, fix = REFUSED[url]
    box.answers.update(answers)
    told = look(setup_of(world, smtp_url=f"{url.partition('?')[0]}:{port}"), "SMTP login")
    assert told.level == level, told
    assert found in told.found
    assert fix in told.fix
    assert "acme" not in f"{told.found} {told.fix}"


def test_a_server_without_a_good_certificate_encryption_or_an_answer_is_reported(
    world: World, port: int
) -> None:
    def told(url: str) -> tuple[str, str]:
        found = look(setup_of(world, smtp_url=url), "SMTP login")
        assert found.level is Level.FAULT
        return found.found, found.fix

    assert told(f"smtp://localhost:{port}")[0] == "its certificate is not valid for this name"
    with smtp_server(Mailbox()) as plain:
        assert "no encryption (STARTTLS)" in told(f"smtp://localhost:{plain}")[0]
    assert "no answer (" in told("smtp://localhost:1")[0]
    assert look(setup_of(world), "SMTP login").found == "SMTP_URL is not set"
    command = setup_of(world, smtp_url=f"smtp://{ME}@localhost:{port}", smtp_token_command="false")
    assert "certificate" in look(command, "SMTP login").found


@pytest.mark.parametrize(
    ("user", "level"),
    [("help%40acme.example:x@", "ok"), ("apikey:x@", "ok"), ("me%40gmail.com:x@", "warning")],
)
def test_a_user_of_another_domain_is_a_warning(world: World, user: str, level: str) -> None:
    setup = setup_of(world, smtp_url=f"smtp://{user}mx.acme.example")
    assert look(setup, "From alignment").level == level


def test_an_authserv_id_that_no_mail_has_is_reported(world: World) -> None:
    assert "anybody can write" in look(setup_of(world), "senders").found
    setup = setup_of(world, AUTHSERV)
    with open_database(world.database.url) as database:
        take = build_take_mail(database, lambda: setup.routing, setup.settings.namespace)
        for number in range(5):
            assert look(setup, "senders").level == "ok", "too few mails to tell"
            passed = "other.example; dmarc=pass"
            raw = mail_of(message_id=f"<{number}@x>", Authentication_Results=passed)
            take.take(raw, smtp())
        assert look(setup, "senders").level == "warning"
        required = setup_of(world, AUTHSERV + "require_dmarc = true\n")
        assert look(required, "senders").level == "fault"
        passed = "mx.acme.example; dmarc=pass"
        take.take(mail_of(message_id="<ours@x>", Authentication_Results=passed), smtp())
    assert look(setup, "senders").found.startswith("1 of the last 6 mails")
