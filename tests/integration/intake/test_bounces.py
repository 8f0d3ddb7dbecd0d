"""Bounces: the delivery that they are about has failed, and a hard one stops further mails."""

import json
from collections.abc import Iterator

import pytest

from tests.support.cli import invoke_in
from tests.support.mails import ADA, AGENTS, bounce_of, mail_of
from tests.support.post import Post, post_in
from tests.support.world import World
from worker.domain.email.marks import bounce_address
from worker.domain.ids import DeliveryId


@pytest.fixture
def post(world: World) -> Iterator[Post]:
    with post_in(world) as made:
        yield made


def sent(post: Post) -> tuple[DeliveryId, str]:
    post.comes(mail_of())
    delivery = post.answered()
    return delivery, bounce_address(delivery, "acme.example", post.database.secret("mail"))


def delivery_state(post: Post) -> tuple[str, str | None]:
    (row,) = post.world.database.rows("SELECT state, receipt_error FROM deliveries")
    return row["state"], row["receipt_error"]


@pytest.mark.parametrize("by_envelope", [True, False])
def test_a_bounce_fails_its_delivery_and_a_hard_one_stops_further_mails(
    post: Post, by_envelope: bool
) -> None:
    _, marked = sent(post)
    raw = bounce_of(marked)
    for _ in range(2):
        taken = post.comes(raw, "", marked) if by_envelope else post.comes(raw, None, None)
        assert (taken.rule, taken.task) == ("report", None)
    assert delivery_state(post) == ("failed", "5.1.1")
    (entry,) = post.world.database.rows("SELECT scope, source, stopped, address FROM consents")
    assert entry == {"scope": "email", "source": "bounce", "stopped": True, "address": ADA}
    assert post.world.database.value("SELECT address FROM mails WHERE verdict = 'report'") == ADA
    # A person who writes again can be written to again.
    post.comes(mail_of("I am back", message_id="<back@example.org>"))
    post.drained()
    assert post.outcomes()[-1][0] == "pending"


@pytest.mark.parametrize(
    ("action", "status", "state", "stopped"),
    [("failed", "4.4.7", "failed", False), ("delayed", "4.4.1", "sent", False)],
)
def test_a_soft_bounce_stops_nobody_and_a_delay_fails_nothing(
    post: Post, action: str, status: str, state: str, stopped: bool
) -> None:
    _, marked = sent(post)
    post.comes(bounce_of(marked, action=action, status=status), "", marked)
    assert delivery_state(post)[0] == state
    assert bool(post.world.database.value("SELECT count(*) FROM consents")) == stopped


def test_what_a_responder_sends_to_the_envelope_sender_is_no_bounce(post: Post) -> None:
    _, marked = sent(post)
    away = mail_of("I am away.", to=marked, message_id="<a@x>", Auto_Submitted="auto-replied")
    assert post.comes(away, "", marked).rule == "auto_submitted"
    assert delivery_state(post) == ("sent", None)


def test_a_forged_bounce_address_fails_nothing(post: Post) -> None:
    delivery, _ = sent(post)
    forged = bounce_address(delivery, "acme.example", b"another key")
    post.comes(bounce_of(forged), "", forged)
    assert delivery_state(post)[0] == "sent"
    assert post.world.database.value("SELECT count(*) FROM consents") == 0


@pytest.mark.parametrize(
    ("status", "command"), [("5.1.1", "worker consent show 1"), ("4.4.7", 'worker say 1 "TEXT"')]
)
def test_why_shows_that_a_reply_has_come_back(post: Post, status: str, command: str) -> None:
    _, marked = sent(post)
    post.comes(bounce_of(marked, status=status), "", marked)
    found = invoke_in(post.world, "why", "<one@example.org>", "--json", agents=AGENTS)
    told = json.loads(found.stdout.splitlines()[-1])
    assert told["where"]["fate"] == "not_delivered"
    assert told["where"]["what"] == (
        "answered; the reply was sent, and has not arrived;"
        f" the provider reports: bounced, error {status}"
    )
    assert told["where"]["commands"] == [command]
