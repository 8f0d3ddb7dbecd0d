"""A thread of five mails, from a mailbox to SMTP, through real processes and real servers."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeGuard

import pytest

from tests.support.dovecot import Dovecot
from tests.support.held import Change, held
from tests.support.imap_proxy import cutting_proxy
from tests.support.jwz import threads
from tests.support.mail_client import PICTURE, Person, bare, below, between, outlook
from tests.support.mail_service import MailService, mail_service
from tests.support.smtp_server import SILENT
from worker.channels.email.delivery.smtp import ANSWER_S
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.simulator.behaviour.model import Script
from worker.sandbox.simulator.record.events import RequestReceived

RELAYED = "<new@relay.example>"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A mail of the thread, and what comes of it."""

    write: Callable[[Person], bytes]
    got: str
    """What the model gets: no line of ours, but if the new lines are between them."""
    left_out: int = 0
    said: str
    """What the model answers."""
    relayed: bool = False
    """A relay gives the answer another Message-ID, and says so."""


def question(person: Person) -> bytes:
    files = (("box.png", "image/png", PICTURE), ("bill.pdf", "application/pdf", b"%PDF-1.4"))
    return person.asks("Where is my order?\nThe bill is attached.", *files)


THREAD = (
    Part(
        write=question,
        got="Subject: Order 7\n\nWhere is my order?\nThe bill is attached.\n\n"
        "[attached: bill.pdf, application/pdf, 8 bytes]",
        said="It left on Monday.\nWe have sent it by train.\nIt comes on Friday at noon.",
    ),
    Part(
        write=lambda one: one.answers("By which way?\nI am home on Friday.", outlook),
        got="By which way?\nI am home on Friday.",
        left_out=15,
        said="The train stops in Vienna.\nNobody can change that now.",
        relayed=True,
    ),
    Part(
        write=lambda one: one.answers("So be it.\nAnything else?", below, chain="none"),
        got="So be it.\nAnything else?",
        left_out=3,
        said="Shall we ring the bell?\nMay we leave it with a neighbour?",
    ),
    Part(
        write=lambda one: one.answers("Yes, twice.\nYes, with Mrs. May.", between, chain="none"),
        got="On Mon, 30 Nov 2026 at 10:00, Help <help@acme.example> wrote:\n\n"
        "> Shall we ring the bell?\n\nYes, twice.\n\n"
        "> May we leave it with a neighbour?\n\nYes, with Mrs. May.",
        said="Good. We ring the bell twice.\nThe neighbour is told today.",
    ),
    Part(
        write=lambda one: one.answers("Thank you very much!\nThat was all.", bare),
        got="Thank you very much!\nThat was all.",
        left_out=3,
        said="You are welcome.\nGood bye.",
    ),
)


@pytest.fixture
def service(
    shared_postgres: EmbeddedPostgres, broker_url: str, mail_server: Dovecot
) -> Iterator[MailService]:
    with mail_service(shared_postgres, broker_url, mail_server) as made:
        made.start_poller()
        made.start_worker()
        yield made


Way = Callable[[MailService, bytes], None]
"""How a mail comes in, and who is killed meanwhile; afterwards everybody runs again."""


def undisturbed(service: MailService, raw: bytes) -> None:
    service.account.append(raw)


def poller_away(service: MailService, raw: bytes) -> None:
    service.kill_poller()
    service.account.append(raw)
    service.start_poller()


def poller_killed(change: Change) -> Way:
    def way(service: MailService, raw: bytes) -> None:
        with held(service.ground.database, change) as hold:
            service.account.append(raw)
            hold.wait()
            service.kill_poller()
            hold.undo()
        service.start_poller()

    return way


def poller_killed_before_seen(service: MailService, raw: bytes) -> None:
    service.kill_poller()
    with cutting_proxy(service.account.server.port) as proxy:
        proxy.holds = b"STORE"
        service.start_poller(service.account.through(proxy.port))
        service.account.append(raw)
        service.wait_for(proxy.held.is_set)
        service.kill_poller()
    service.start_poller()


def worker_killed(change: Change, *, with_poller: bool = False) -> Way:
    def way(service: MailService, raw: bytes) -> None:
        with held(service.ground.database, change) as hold:
            service.account.append(raw)
            hold.wait()
            service.kill_workers()
            if with_poller:
                service.kill_poller()
                service.start_poller()
            hold.undo()
        service.start_worker()

    return way


def worker_killed_at(phase: str) -> Way:
    def way(service: MailService, raw: bytes) -> None:
        service.box.seen.clear()
        service.box.answers[phase] = [SILENT]
        service.account.append(raw)
        service.wait_for(lambda: phase in service.box.seen)
        service.kill_workers()
        del service.box.answers[phase]
        service.start_worker()

    return way


OF_ANSWER = "NEW.delivery_id IS NOT NULL"
PASSED = Change("mailboxes", "UPDATE", "NEW.last_uid > OLD.last_uid")
CLAIMED = Change("deliveries", "UPDATE", "NEW.state = 'sending' AND OLD.state = 'pending'")
NOTED = Change("deliveries", "UPDATE", "NEW.provider_status = 'handed_over'")
SENT = Change("deliveries", "UPDATE", "NEW.state = 'sent'")
POLLER: tuple[Way, ...] = (
    poller_away,
    poller_killed(Change("mails", "INSERT")),
    poller_killed(PASSED),
    poller_killed_before_seen,
    worker_killed(Change("messages", "INSERT"), with_poller=True),
)
WORKER: tuple[Way, ...] = tuple(
    worker_killed(change)
    for change in (
        Change("messages", "INSERT"),
        Change("turns", "INSERT"),
        Change("calls", "INSERT"),
        Change("replies", "INSERT"),
        CLAIMED,
    )
)
SMTP: tuple[Way, ...] = (
    worker_killed(Change("mails", "INSERT", OF_ANSWER)),
    worker_killed_at("RCPT"),
    worker_killed(NOTED),
    worker_killed_at("end"),
    worker_killed(SENT),
)
UNKNOWN = SMTP[3:]
"""The server has the mail, and nobody knows."""


def play(service: MailService, ways: tuple[Way, ...]) -> Person:
    """Let a person and the service write to each other."""
    person = Person("ada@example.org", "Order 7")
    for number, (part, way) in enumerate(zip(THREAD, ways, strict=True), 1):
        first = part.got.splitlines()[-1]
        service.ground.simulator.script(Script(text=first, reply=part.said, count=None))
        if part.relayed:
            service.box.answers["end"] = [f"250 2.6.0 {RELAYED} Queued"]
        way(service, part.write(person))
        state = "unknown" if way in UNKNOWN else "sent"
        if way in UNKNOWN:
            service.bring_forward(ANSWER_S)
        service.wait_for_end(number, ("answered", state), tick_s=10)
        mails = service.arrived(person.address)
        assert len(mails) == number
        raw, mail = mails[-1]
        if part.relayed:
            del service.box.answers["end"]
            raw = raw.replace(mail["Message-ID"].encode(), RELAYED.encode())
        person.got(raw)
        service.a_minute_passes()
    return person


def what_the_model_got(service: MailService) -> list[str]:
    """Each of its inputs, as Telnyx has it, without the simulator's mark on our texts."""
    simulator = service.ground.simulator
    (conversation,) = simulator.conversations()
    said = [one.text or "" for one in simulator.messages(conversation.id) if one.role == "user"]
    return [re.sub(r" \[prefix:\w+\]", "", text) for text in said]


def expected(part: Part) -> str:
    left_out = f"\n\n[{part.left_out} lines of earlier mails or a signature left out]"
    return part.got + (left_out if part.left_out else "")


def requests_with_a_picture(service: MailService) -> set[str]:
    bodies = [one.event.body for one in service.ground.simulator.log() if is_asked(one.event)]
    return {str(body["input"]) for body in bodies if "input_image" in str(body["input"])}


def is_asked(event: object) -> TypeGuard[RequestReceived]:
    return isinstance(event, RequestReceived) and event.endpoint == "responses"


@pytest.mark.slow
@pytest.mark.parametrize(
    "ways",
    [(undisturbed,) * 5, POLLER, WORKER, SMTP],
    ids=["nobody", "poller", "worker in a turn", "worker in SMTP"],
)
def test_a_thread_of_five_mails_is_answered_in_one_thread_despite_kills(
    service: MailService, ways: tuple[Way, ...]
) -> None:
    person = play(service, ways)
    # What comes again is known: nobody is answered twice.
    service.account.append(*person.mails[::2])
    service.wait_for(lambda: all(service.account.seen()))
    assert len(threads(person.mails)) == 1
    value = service.ground.database.value
    assert value("SELECT count(DISTINCT thread) FROM mails") == 1
    assert value("SELECT count(*) FROM mails") == len(person.mails) == 10
    assert value("SELECT count(*) FROM dead_letters") == 0
    assert what_the_model_got(service) == [expected(part) for part in THREAD]
    assert len(requests_with_a_picture(service)) == 1
    assert len(service.arrived(person.address)) == 5


@pytest.mark.slow
def test_silence_after_the_end_of_a_mail_is_unknown_visible_and_not_sent_again(
    service: MailService,
) -> None:
    person = Person("ada@example.org", "Order 7")
    service.box.answers["end"] = [SILENT]
    service.account.append(question(person))
    service.wait_for(lambda: "end" in service.box.seen)
    service.start_worker()
    service.bring_forward(ANSWER_S)
    service.wait_for_end(1, ("answered", "unknown"), tick_s=10)
    del service.box.answers["end"]
    told = service.invoke("why", "<0.ada@example.org>")
    assert "the channel may have the reply or not, and it is not sent again" in told
    assert "unknown 1" in service.invoke("status")
    # The next one is answered, and the first is not sent again with it.
    service.account.append(person.asks("Hello?"))
    service.wait_for_end(2, ("answered", "sent"), tick_s=60)
    service.bring_forward(3600)
    service.a_minute_passes()
    service.account.append(person.asks("Thanks!"))
    service.wait_for_end(3, ("answered", "sent"))
    assert service.box.seen.count("end") == len(service.arrived(person.address)) == 3
