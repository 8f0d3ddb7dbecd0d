"""Two installations whose SMTP servers lead to each other's mailbox."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.dovecot import Dovecot
from tests.support.mail_service import MailService, mail_service
from tests.support.mails import AGENTS, mail_of
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis

DESK = "desk@shop.example"


@contextmanager
def running(
    postgres: EmbeddedPostgres, redis: EmbeddedRedis, imap: Dovecot, number: int, agents: str
) -> Iterator[MailService]:
    with mail_service(postgres, redis.url_of(number), imap, agents=agents) as made:
        made.start_poller()
        made.start_worker()
        yield made


@pytest.mark.slow
def test_two_of_our_responders_that_write_to_each_other_stop_after_one_mail(
    shared_postgres: EmbeddedPostgres, redis_server: EmbeddedRedis, mail_server: Dovecot
) -> None:
    others = '[channels.mail]\ndriver = "smtp"\n[channels.mail.mail]\naddresses = ["{}"]\n'
    servers = (shared_postgres, redis_server, mail_server)
    with (
        running(*servers, 1, AGENTS) as acme,
        running(*servers, 2, others.format(DESK)) as shop,
    ):
        acme.account.append(mail_of("What is new?", sender=DESK))
        acme.wait_for_end(1, ("answered", "sent"))
        (raw,) = (raw for raw, _ in acme.arrived(DESK))
        shop.account.append(raw)
        shop.wait_for_end(1, (None, None))
        assert shop.ground.database.value("SELECT verdict FROM mails") == "auto_submitted"
        assert shop.box.mails == []
        # People are answered as before.
        shop.account.append(mail_of("And what is new there?", to=DESK))
        shop.wait_for_end(2, ("answered", "sent"))
        assert [one.rcpt_tos for one in shop.box.mails] == [["ada@example.org"]]
        assert len(acme.box.mails) == 1
