"""Two of our responders that write to each other: they stop, also if their marks are removed."""

import random
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.databases import CLOCKED, fresh_database
from tests.support.mails import mail_of, smtp, take_mail
from tests.support.smtp_server import Mailbox, smtp_server
from tests.support.world import HandDrivenWorker, World, running_world
from worker.handlers.intake.take_mail import TakeMail
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.simulator.behaviour.config import SimulatorConfig
from worker.sandbox.simulator.behaviour.model import Script
from worker.store.database import Database

HELP, DESK = "help@acme.example", "desk@shop.example"
MARKS = re.compile(rb"^(Auto-Submitted|X-Auto-Response-Suppress):.*\r\n", re.MULTILINE)


@dataclass
class Responder:
    """One installation: its own database, its own way out."""

    world: World
    take: TakeMail
    mike: HandDrivenWorker
    box: Mailbox

    def answers(self, raw: bytes, sender: str, recipient: str) -> list[tuple[bytes, str, str]]:
        """Take a mail; gives the mails that leave because of it, with their envelopes."""
        before = len(self.box.mails)
        self.take.take(raw, smtp(sender, recipient))
        while self.mike.service.background.drain_inbox():
            pass
        self.world.clock.advance(2)  # an earlier mail might still be on its way
        self.mike.answer()
        return [
            (one.content, one.mail_from or "", one.rcpt_tos[0])
            for one in self.box.mails[before:]
            if isinstance(one.content, bytes)
        ]


@contextmanager
def responder(postgres: EmbeddedPostgres, folder: Path, address: str) -> Iterator[Responder]:
    agents = f'[channels.mail]\ndriver = "smtp"\n[channels.mail.mail]\naddresses = ["{address}"]\n'
    folder.mkdir()
    with ExitStack() as stack:
        url = stack.enter_context(fresh_database(postgres, template=CLOCKED))
        world = stack.enter_context(
            running_world(url, folder, SimulatorConfig(list_visible_after_s=0))
        )
        # The template is one installation. What these two make, only they recognise.
        rekey = "UPDATE secrets SET value = sha256(CAST(%s AS bytea)) WHERE name = 'mail'"
        world.database.run(rekey, address)
        box = Mailbox()
        world.smtp_url = f"smtp://127.0.0.1:{stack.enter_context(smtp_server(box))}?plain=true"
        database = Database(url)
        stack.callback(database.close)
        mike = world.worker(f"{agents}per_domain_per_minute = 600000\n")
        yield Responder(world, take_mail(world, database, agents), mike, box)


@pytest.fixture
def both(
    shared_postgres: EmbeddedPostgres, tmp_path: Path
) -> Iterator[tuple[Responder, Responder]]:
    with (
        responder(shared_postgres, tmp_path / "help", HELP) as first,
        responder(shared_postgres, tmp_path / "desk", DESK) as second,
    ):
        yield first, second


WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "islet", "kelp")


@dataclass(frozen=True)
class Between:
    """What happens to a mail on its way."""

    marks: bool
    """They arrive."""
    seconds: float
    varied: bool = False
    """Each answer has other words than those before."""


@pytest.mark.parametrize(
    ("between", "sent"),
    [
        (Between(marks=True, seconds=0), 1),
        (Between(marks=False, seconds=0, varied=True), 2),
        (Between(marks=False, seconds=600), 7),
        pytest.param(Between(marks=False, seconds=60, varied=True), 20, marks=pytest.mark.slow),
    ],
)
def test_two_of_our_responders_stop(
    both: tuple[Responder, Responder], between: Between, sent: int
) -> None:
    """`sent`: mails of both. They stop by their marks, else as answers within three seconds, as
    nearly equal texts (the loop breaker), or at ten answers to an address within an hour.
    """
    for place, one in enumerate(both if between.varied else ()):
        for number in range(60):
            dice = random.Random(f"{place} {number}")  # noqa: S311
            said = Script(text="", reply=" ".join(dice.choices(WORDS, k=9)))
            one.world.simulator.script(said)
    mails = [(mail_of("Hello?", sender=DESK, to=HELP), DESK, HELP)]
    for number in range(60):
        for one in both:
            one.world.clock.advance(between.seconds)
        raw, sender, recipient = mails[-1]
        raw = raw if between.marks else MARKS.sub(b"", raw)
        made = both[number % 2].answers(raw, sender, recipient)
        if not made:
            break
        mails += made
    assert len(mails) - 1 == sent
