"""SIGKILL of the mailbox's poller at each step: no mail is lost, none is taken twice."""

import signal
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count

import pytest

from tests.support.crashing import Stop
from tests.support.dovecot import Dovecot
from tests.support.forked import context
from tests.support.mailbox_crash import Look, look
from tests.support.mails import AGENTS, mail_of
from tests.support.world import World

STEPS_OF_A_MAIL = ("MailboxSession.about", "MailboxSession.mail", "MailboxStore.turn", "take")


def ran(job: Look) -> int | None:
    process = context.Process(target=look, args=(job,), daemon=True)
    process.start()
    process.join(30)
    return process.exitcode


@pytest.mark.slow
def test_a_poller_that_is_killed_at_any_step_loses_no_mail_and_takes_none_twice(
    world: World, mail_server: Dovecot
) -> None:
    account, numbers = mail_server.account(), count(1)
    agents = world.folder / "agents.toml"
    agents.write_text(AGENTS)
    job = Look(
        database_url=world.database.url,
        imap_url=account.url,
        agents_file=agents,
        journal=world.folder / "journal",
        since=datetime.fromtimestamp(0, UTC),
    )

    def two_mails_come() -> None:
        new = [f"<{next(numbers)}@example.org>" for _ in range(2)]
        account.append(*(mail_of(message_id=one) for one in new))

    two_mails_come()
    assert ran(job) == 0
    steps = job.journal.read_text().splitlines()
    assert steps[3:8] == [*STEPS_OF_A_MAIL, "MailboxSession.mark_seen"]
    assert len(steps) == 14
    for index, name in enumerate(steps):
        two_mails_come()
        stop = Stop(index=index, name=name, moment="before")
        assert ran(replace(job, stop=stop)) == -signal.SIGKILL, name
        assert ran(job) == 0, name
        taken = world.database.value("SELECT array_agg(message_id ORDER BY id) FROM mails")
        assert taken == [f"<{one}@example.org>" for one in range(1, 2 * index + 5)], name
        assert world.database.value("SELECT count(*) FROM inbox") == len(taken), name
    assert world.database.value("SELECT count(*) FROM dead_letters") == 0
    # Of those that were killed between the commit and the mark, a mail stays unread.
    assert account.seen().count(False) == 2
