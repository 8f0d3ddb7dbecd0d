"""A mail's way out is cut at every step by a kill.

Before the note that only the end is missing, another worker sends it. From there on the server may
have it, so the delivery is `unknown`: nobody gets a mail twice, and no mail is lost unseen.
"""

import signal
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.turns.test_crash_matrix import LEASE_S, Stage, points
from tests.support.crashing import Stop
from tests.support.smtp_server import Mailbox
from tests.support.world import HandDrivenWorker, World
from worker.channels.email.delivery.smtp import ANSWER_S

OURS = "help@acme.example"
AGENTS = f"""
[agents.default]
instructions = "be kind"
call_timeout_s = 5
[channels.email]
driver = "smtp"
[channels.email.mail]
addresses = ["{OURS}"]
per_domain_per_minute = 600000
"""
RESERVE, CLAIM, COMPOSE = "PacingStore.reserve", "DeliveryStore.claim", "DeliveryStore.compose"
MAIL, NOTE, END = "SMTP mail", "DeliveryStore.note_may_have_arrived", "DeliveryStore.end"
CROSSES = (RESERVE, CLAIM, COMPOSE, MAIL, NOTE, END, RESERVE, CLAIM)
UNKNOWN = {(NOTE, "after"): 0, (MAIL, "after"): 1, (END, "before"): 1}
"""Where a kill leaves it open, and whether the mail has arrived."""


@dataclass(kw_only=True)
class Writer(Stage):
    """A person who writes mails."""

    box: Mailbox
    channel: str = "email"
    agents: str = AGENTS

    def is_answered(self) -> None:
        """The reply is stored, and nobody has tried to deliver it."""
        message_id = f"<q{self.number}@example.org>"
        self.world.database.run(
            "INSERT INTO mails (channel, recipient, address, thread, root, message_id, refs)"
            " VALUES ('email', %s, %s, 't', %s, %s, %s)",
            OURS,
            self.address,
            message_id,
            message_id,
            [message_id],
        )
        self.healer.receive(
            self.envelope("question", recipient=OURS, thread="t", message_id=message_id)
        )
        self.healer.broker.deliveries.clear()
        assert [one["state"] for one in self.rows("deliveries")] == ["pending"]

    def user_id(self) -> int:
        return int(self.user()["id"])

    def mails(self) -> list[Any]:
        """What reached the mailbox."""
        return [one for one in self.box.mails if one.rcpt_tos == [self.address]]


@pytest.fixture
def writer(world: World, healer: HandDrivenWorker, box: Mailbox) -> Writer:
    healer.service.background.workers.beat()
    return Writer(world=world, healer=healer, number=next(world._numbers), box=box)


def test_the_matrix_has_every_boundary_there_is(writer: Writer) -> None:
    writer.is_answered()
    assert writer.crossed_by(("deliver", writer.user_id())) == CROSSES
    assert [one["state"] for one in writer.rows("deliveries")] == ["sent"]
    assert len(writer.mails()) == 1


@pytest.mark.parametrize(("name", "stop"), points({"a mail": CROSSES}, signal.SIGKILL))
def test_a_kill_at_any_boundary_doubles_nothing_and_loses_nothing_unseen(
    writer: Writer, name: str, stop: Stop
) -> None:
    writer.is_answered()
    writer.kill(("deliver", writer.user_id()), stop)
    # Long before the server's ten minutes are over, nobody touches what it may have.
    writer.pass_time(LEASE_S + 60)
    writer.healer.service.deliver(writer.user_id())
    open_for = UNKNOWN.get((stop.name, stop.moment))
    if open_for is not None:
        assert [one["state"] for one in writer.rows("deliveries")] == ["sending"]
        writer.pass_time(ANSWER_S)
    writer.heal()
    state = "sent" if open_for is None else "unknown"
    assert [one["state"] for one in writer.rows("deliveries")] == [state]
    assert len(writer.mails()) == (1 if open_for is None else open_for)
    kept = writer.world.database.rows(
        "SELECT message_id FROM mails WHERE address = %s AND delivery_id IS NOT NULL",
        writer.address,
    )
    assert len(kept) == 1
