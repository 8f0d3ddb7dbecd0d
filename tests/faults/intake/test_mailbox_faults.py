"""Faults of the mail server, of Postgres and of mails, while a mailbox is read."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial

import pytest

from tests.support.dovecot import Dovecot
from tests.support.imap_proxy import cutting_proxy
from tests.support.imap_server import TOKEN, OddImap, by_token
from tests.support.mailbox import Place, mail, place_in, running
from tests.support.processes import eventually
from tests.support.raw_server import raw_server
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.world import World
from worker.bootstrap.mailbox import way_to_mailbox
from worker.channels.email.mailbox.session import MailboxSession, RefusedMailError
from worker.domain.email.mailbox import Place as PlaceOfReader
from worker.domain.errors import DatabaseAwayError, SettingsError

NOT_GIVEN = "the mail server does not give it"


@pytest.fixture
def place(world: World, mail_server: Dovecot) -> Iterator[Place]:
    with place_in(world, mail_server) as made:
        yield made


@pytest.mark.parametrize("after", [60, 150_000])
def test_a_fetch_that_is_cut_loses_no_mail_and_takes_no_piece(place: Place, after: int) -> None:
    mails, seen = [mail(1, "long " * 60_000), mail(2)], list[bytes]()
    place.account.append(*mails)
    with cutting_proxy(place.server.port, cuts=2, after=after) as proxy:
        reader = place.reader(place.account.through(proxy.port))
        take = reader.take

        def noted(raw: bytes, arrived: datetime | None) -> None:
            seen.append(raw)
            take(raw, arrived)

        with running(replace(reader, take=noted)):
            assert eventually(lambda: len(place.taken()) == 2)
        assert proxy.cuts == 0
    assert (place.taken(), seen, place.letters()) == ([1, 2], mails, [])


def test_a_dead_idle_is_noticed(place: Place) -> None:
    with TcpProxy(("127.0.0.1", place.server.port)) as proxy:
        reader = place.reader(place.account.through(proxy.port), poll_s=0.4)
        session = partial(_impatient, place, place.account.through(proxy.port))
        with running(replace(reader, connect=session)):
            assert eventually(lambda: place.world.database.rows("SELECT 1 FROM mailboxes") != [])
            proxy.mode = Mode.DROP_ANSWERS
            place.account.append(mail(1))
            assert eventually(lambda: proxy.accepted > 1)
            assert place.taken() == []
            proxy.mode = Mode.PASS
            assert eventually(lambda: place.taken() == [1])


def _impatient(place: Place, url: str) -> MailboxSession:
    settings = replace(place.world.settings(), imap_url=url)
    server, _ = way_to_mailbox(settings)
    return MailboxSession.open(server, tls=None, token_command=None, timeout_s=0.5)  # type: ignore[arg-type]


def test_a_mail_that_comes_between_search_and_idle_does_not_wait(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, looks = MailboxSession.uids_after, list[int]()

    def late(session: MailboxSession, read: PlaceOfReader) -> list[int]:
        looks.append(0)
        found = search(session, read)
        if len(looks) == 1:
            place.account.append(mail(1))
            session.mark_seen(4711)  # the answer tells of the mail
        return found

    monkeypatch.setattr(MailboxSession, "uids_after", late)
    with running(place.reader(poll_s=600.0)):
        assert eventually(lambda: place.taken() == [1])


def test_while_postgres_is_away_nothing_is_passed(place: Place) -> None:
    place.account.append(mail(1), mail(2))
    reader = place.reader()
    take, tries = reader.take, Counter[bytes]()

    def away(raw: bytes, arrived: datetime | None) -> None:
        tries[raw] += 1
        if tries[raw] < 3:
            raise DatabaseAwayError("Postgres: OperationalError")
        take(raw, arrived)

    with running(replace(reader, take=away)):
        assert eventually(lambda: place.taken() == [1, 2])
    assert place.letters() == []


@pytest.mark.parametrize(
    "error",
    [
        SettingsError("AGENTS_FILE: give a channel"),
        DatabaseAwayError("Postgres: UndefinedTable 42P01", code="42P01"),
    ],
)
def test_an_error_that_is_no_mails_fault_passes_no_mail(place: Place, error: Exception) -> None:
    place.account.append(mail(1))

    def take(*_: object) -> None:
        raise error

    with pytest.raises(type(error)):
        place.look(place.reader(take=take))
    assert (place.last_uid(), place.letters()) == (0, [])


def test_a_mail_that_cannot_be_taken_is_kept_and_the_next_one_is_taken(place: Place) -> None:
    place.account.append(mail(1), mail(2))
    reader = place.reader()
    take = reader.take

    def defect(raw: bytes, arrived: datetime | None) -> None:
        if b"<1@example.org>" in raw:
            raise RecursionError(raw.decode())
        take(raw, arrived)

    place.look(replace(reader, take=defect))
    (letter,) = place.letters()
    assert (place.taken(), place.account.seen()) == ([2], [False, True])
    assert (letter["reason"], letter["raw"], letter["queue"]) == ("task_failed", mail(1), "mailbox")
    assert str(letter["detail"]).endswith(": RecursionError")
    place.look(reader)
    assert place.taken() == [2]


def test_a_mail_that_is_too_large_is_skipped_aloud(place: Place) -> None:
    place.account.append(mail(1, "long " * 1000), mail(2))
    place.look(place.reader(max_bytes=2000))
    (letter,) = place.letters()
    assert place.taken() == [2]
    assert letter["reason"] == "too_large"
    assert b"Subject: Order 1" in bytes(letter["raw"])  # type: ignore[call-overload]
    assert "mail 1 of the mailbox" in str(letter["detail"])


def test_a_mail_that_the_server_does_not_give_blocks_the_next_one_only_for_some_time(
    place: Place,
) -> None:
    odd = OddImap(mails={5: mail(1), 6: mail(2)}, refused={5})
    with raw_server(odd) as server:
        reader = by_token(place, server.port, f"echo {TOKEN}", refusals=3, poll_s=0.05)
        for _ in range(2):
            with pytest.raises(RefusedMailError):
                place.look(reader)
        assert (place.taken(), place.letters()) == ([], [])
        place.look(reader)
    (letter,) = place.letters()
    assert (place.taken(), letter["reason"]) == ([2], "task_failed")
    assert str(letter["detail"]).endswith("mail 5 of the mailbox, UIDVALIDITY 7: " + NOT_GIVEN)
