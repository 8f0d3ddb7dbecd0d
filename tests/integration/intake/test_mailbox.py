"""The mailbox's poller, with a real IMAP server and a real Postgres."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from tests.support.dovecot import Dovecot, by_tls
from tests.support.mailbox import Place, mail, place_in, running
from tests.support.processes import eventually
from tests.support.world import World


@pytest.fixture
def place(world: World, mail_server: Dovecot) -> Iterator[Place]:
    with place_in(world, mail_server) as made:
        yield made


def test_a_new_mail_becomes_a_message_and_is_marked_as_read(place: Place) -> None:
    place.account.append(mail(1))
    reader = place.reader()
    place.look(reader)
    assert (place.taken(), place.envelopes(), place.account.seen()) == ([1], 1, [True])
    assert place.last_uid() == 1
    place.look(reader)
    assert place.taken() == [1]
    assert reader.look_age_s() < 5


def test_of_ten_thousand_old_mails_none_is_answered_at_the_first_start(place: Place) -> None:
    place.account.plant({f"{number}.old": mail(number) for number in range(10_000)})
    # Whatever time the mail server has.
    with place.account.opened() as box:
        box.append(mail(10_001), "INBOX", dt=datetime.now(UTC) + timedelta(hours=1))
    reader = place.reader(since=None)
    place.look(reader)
    assert place.taken() == []
    place.account.append(mail(20_000))
    place.look(reader)
    assert place.taken() == [20_000]


def test_the_first_start_answers_old_mails_from_a_day_on_if_it_is_asked_to(place: Place) -> None:
    now = datetime.now(UTC)
    with place.account.opened() as box:
        for number, days in ((1, 5), (2, 3), (3, 9), (4, 0)):
            box.append(mail(number), "INBOX", dt=now - timedelta(days=days))
    place.look(place.reader(since=now - timedelta(days=4)))
    assert place.taken() == [2, 4]
    # What comes later is answered whenever it was written.
    with place.account.opened() as box:
        box.append(mail(5), "INBOX", dt=now - timedelta(days=30))
    place.look(place.reader(since=None))
    assert place.taken() == [2, 4, 5]


def test_mails_that_a_person_has_read_or_moved_away_disturb_nobody(place: Place) -> None:
    reader = place.reader(since=None)
    take = reader.take
    place.look(reader)
    place.account.append(*(mail(number) for number in range(1, 6)))
    with place.account.opened() as box:
        box.flag(["1", "3"], "\\Seen", value=True)

    def moved_meanwhile(raw: bytes, arrived: datetime | None) -> None:
        if b"<1@example.org>" in raw:
            with place.account.opened() as box:
                box.delete(["2"])
        take(raw, arrived)

    place.look(replace(reader, take=moved_meanwhile))
    assert place.taken() == [1, 3, 4, 5]
    assert place.last_uid() == 5


def test_a_new_uidvalidity_answers_no_mail_twice_and_no_old_one(
    world: World, mail_server: Dovecot, place: Place
) -> None:
    here = Place(world, mail_server, place.database, folder="Help")
    # Older than the first start by less than the day of the search.
    with here.account.opened() as box:
        box.append(mail(1), "Help", dt=datetime.now(UTC) - timedelta(minutes=5))
    reader = here.reader(since=None)
    here.look(reader)
    here.account.append(mail(2), mail(3))
    here.look(reader)
    assert here.taken() == [2, 3]
    with here.account.opened() as box:
        box.folder.rename("Help", "Old")
        box.folder.create("Help")
        box.folder.set("Old")
        # In another order, and the one that came meanwhile has a UID that was passed.
        box.append(mail(4), "Help")
        for uid in ("3", "1", "2"):
            box.copy([uid], "Help")
    here.look(reader)
    assert here.taken() == [2, 3, 4]
    assert here.envelopes() == 3
    here.account.append(mail(5))
    here.look(reader)
    assert here.taken() == [2, 3, 4, 5]


def test_a_server_that_was_restored_from_a_backup_gives_numbers_again(place: Place) -> None:
    reader = place.reader(since=None)
    place.look(reader)
    place.account.append(mail(1))
    place.look(reader)
    # Three mails that the backup does not have.
    place.world.database.run("UPDATE mailboxes SET last_uid = last_uid + 3")
    place.account.append(mail(2))
    place.look(reader)
    assert (place.taken(), place.last_uid()) == ([1, 2], 2)


def test_a_mail_is_taken_when_it_comes_not_at_the_next_look(place: Place) -> None:
    with running(place.reader(poll_s=60.0)) as reader:
        assert eventually(lambda: place.world.database.rows("SELECT 1 FROM mailboxes") != [])
        place.account.append(mail(1))
        assert eventually(lambda: place.taken() == [1], timeout_s=5)
        assert reader.look_age_s() < 5


def test_of_two_pollers_one_takes_each_mail(place: Place) -> None:
    place.account.append(*(mail(number) for number in range(30)))
    takes = Counter[bytes]()

    def counting(take: Callable[..., object], raw: bytes, arrived: datetime | None) -> None:
        takes[raw] += 1
        take(raw, arrived)

    one, two = place.reader(), place.reader()
    one.take, two.take = partial(counting, one.take), partial(counting, two.take)
    with running(one), running(two):
        assert eventually(lambda: len(place.taken()) == 30)
    assert set(takes.values()) == {1}


def test_a_poller_stops_between_two_mails(place: Place) -> None:
    place.account.append(mail(1), mail(2))
    reader = place.reader()
    take = reader.take

    def last(raw: bytes, arrived: datetime | None) -> None:
        reader.stop.set()
        take(raw, arrived)

    reader.take = last
    reader.run()
    assert (place.taken(), place.account.seen()) == ([1], [True, False])
    # Another process goes on behind the first mail, without fetching it.
    assert place.last_uid() == 1


def test_a_mailbox_is_opened_with_tls(
    place: Place, monkeypatch: pytest.MonkeyPatch, certificate: object
) -> None:
    url = by_tls(place.server, place.account.user)
    with pytest.raises(Exception, match="connect: SSLCertVerificationError"):
        place.look(place.reader(url))
    monkeypatch.setenv("SSL_CERT_FILE", certificate.cert)
    place.account.append(mail(1))
    place.look(place.reader(url))
    assert place.taken() == [1]
