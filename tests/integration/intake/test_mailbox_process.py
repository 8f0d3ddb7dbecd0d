"""`worker mailbox` as a process, its login, its dead letters, and doctor's view of it."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.support.dovecot import Dovecot
from tests.support.forked import ForkedProcess
from tests.support.imap_server import TOKEN, USER, OddImap, by_token
from tests.support.mailbox import Place, mail, place_in
from tests.support.mails import AGENTS, Out, routing_of
from tests.support.processes import eventually
from tests.support.raw_server import raw_server
from tests.support.world import NAMESPACE, World
from worker.bootstrap.mailbox import mailbox_name, way_to_mailbox
from worker.channels.email.mailbox.session import MailboxError
from worker.cli.doctor.doctor import MAILBOX
from worker.cli.doctor.examine import Setup, examine
from worker.config.settings import Settings
from worker.domain.reports.finding import Level
from worker.domain.timing import Timing
from worker.handlers.operators.replay import NotReplayableError


@pytest.fixture
def place(world: World, mail_server: Dovecot) -> Iterator[Place]:
    with place_in(world, mail_server) as made:
        yield made


def test_a_token_command_logs_in(place: Place) -> None:
    odd = OddImap(mails={5: mail(1)})
    with raw_server(odd) as server:
        place.look(by_token(place, server.port, f"echo {TOKEN}"))
        assert (place.taken(), odd.logins) == ([1], 1)
        with pytest.raises(MailboxError, match=r"^login: the server refuses it$") as caught:
            place.look(by_token(place, server.port, "echo other"))
        assert USER not in repr(caught.value.__cause__)
        with pytest.raises(MailboxError, match=r"^login: token command: exit 1, 0 characters$"):
            place.look(by_token(place, server.port, "false"))


def test_a_mail_that_was_set_aside_is_replayed(place: Place) -> None:
    place.account.append(mail(1))

    def defect(_: bytes) -> None:
        raise ValueError

    place.look(place.reader(take=defect))
    operator = place.world.worker(AGENTS, channels={"mail": Out()}).operator
    (letter,) = operator.dead_letters.find()
    operator.replay(letter.id)
    assert (place.taken(), operator.dead_letters.find()) == ([1], ())


def test_a_mail_of_which_only_the_header_is_kept_is_not_replayed(place: Place) -> None:
    place.account.append(mail(1))
    place.look(place.reader(max_bytes=10))
    operator = place.world.worker(AGENTS, channels={"mail": Out()}).operator
    (letter,) = operator.dead_letters.find()
    with pytest.raises(NotReplayableError, match="only in the mailbox"):
        operator.replay(letter.id)
    assert place.taken() == []


def test_doctor_logs_in_and_knows_when_somebody_looked(place: Place) -> None:
    url = place.account.url
    settings = replace(place.world.settings(), imap_url=url)
    name = mailbox_name(way_to_mailbox(settings)[0])

    def checked(settings: Settings) -> list[tuple[Level, str]]:
        routing = routing_of(place.world)
        setup = Setup(settings=settings, wrong={}, routing=routing, timing=Timing())
        checks = [replace(one, needs=()) for one in MAILBOX]
        return [(one.level, one.found) for one in examine(checks, setup)]

    fine = (Level.OK, "logged in, the folder is there")
    assert checked(settings) == [fine, (Level.WARNING, "it was never read")]
    place.look(place.reader(name=name))
    logged_in, (level, found) = checked(settings)
    assert (logged_in, level) == (fine, Level.OK)
    assert float(found.split()[0]) < 60
    place.world.clock.advance(400)
    level, found = checked(settings)[1]
    assert level is Level.WARNING
    assert float(found.split()[0]) >= 400
    elsewhere = replace(settings, imap_url=url.replace("INBOX", "None"))
    assert checked(elsewhere)[0] == (Level.FAULT, "select: the server refuses it")


def test_the_process_takes_mails_serves_its_age_and_ends_with_sigterm(place: Place) -> None:
    place.account.append(mail(1))
    agents, log = place.world.folder / "agents.toml", place.world.folder / "mailbox.log"
    agents.write_text(AGENTS)
    env = {
        "DATABASE_URL": place.world.database.url,
        "NAMESPACE": str(NAMESPACE),
        "AGENTS_FILE": str(agents),
        "IMAP_URL": place.account.url,
        "SANDBOX_DIR": str(place.world.folder / "none"),
        "PATH": os.environ["PATH"],
    }
    process = ForkedProcess("worker", "mailbox", "--all", log=log, env=env)
    try:
        assert eventually(lambda: place.taken() == [1]), log.read_text()
        place.account.append(mail(2))
        assert eventually(lambda: place.taken() == [1, 2], timeout_s=5), log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5)
    finally:
        process.kill()
    assert process.exit_code == 0
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events == ["mailbox.started", "mail.taken", "mail.taken", "mailbox.stopped"]
    assert not any(word in log.read_text() for word in ("example.org", "Order", place.account.user))
