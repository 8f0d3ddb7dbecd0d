"""A text message's way is cut at every step: by a kill, or by Telnyx that drops its answer.

On the way in: webhook, inbox, turn. On the way out: claim, compose, POST, end, for a whole reply
and for one in pieces; then the receipts, in any order. At the end the phone has one message for
each piece of the reply, in order, and the person's message was answered once.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from tests.faults.turns.test_crash_matrix import LEASE_S, Stage, points
from tests.support.crashing import Moment, Step, Stop
from tests.support.telnyx_events import event, inbound, outbound
from tests.support.world import HandDrivenWorker, World
from worker.domain.sms.receipts import FAILED
from worker.sandbox.simulator.behaviour.model import Script
from worker.sandbox.simulator.record.sms import Sms

AGENTS = """
[agents.default]
instructions = "be kind"
call_timeout_s = 5
[channels.sms]
driver = "telnyx"
disclosure = "none"
[channels.sms.telnyx]
split = true
max_parts = 1
"""
OUR_NUMBER = "+13125550100"
CLAIM_IT, COMPOSE = "DeliveryStore.claim", "DeliveryStore.compose"
SENT = ("POST text message", "DeliveryStore.end")
PUT, DRAIN, RECORD = "InboxStore.put", "InboxStore.drain", "ReceiptStore.record"
LONG = "A long answer about {}; " + " ".join(f"word{number}" for number in range(30)) + "."
"""Two pieces of one part each."""


@dataclass(kw_only=True)
class Phone(Stage):
    """A person who writes from a telephone."""

    channel: str = "sms"
    agents: str = AGENTS
    webhook: dict[str, Any] | None = None
    """What Telnyx brings again, until it gets an answer."""

    @property
    def address(self) -> str:
        return f"+1312{self.number:07}"

    def writes(self) -> dict[str, Any]:
        self.webhook = event(
            "message.received",
            inbound(
                id=f"in-{self.number}",
                text=f"question of {self.number};",
                **{"from": {"phone_number": self.address}, "to": [{"phone_number": OUR_NUMBER}]},
            ),
        )
        return self.webhook

    def gets_a_long_answer(self) -> None:
        text = LONG.format(self.number)
        self.world.simulator.script(Script(text=f"question of {self.number};", reply=text))

    def texts(self) -> list[Sms]:
        """What reached the phone."""
        sent = [one for one in self.world.simulator.sms() if one.direction == "outbound"]
        return [one for one in sent if one.recipient == self.address]

    def deliveries(self) -> list[dict[str, Any]]:
        return sorted(
            self.rows("deliveries"), key=lambda one: (one["part_of"] or one["id"], one["id"])
        )

    def user_id(self) -> int:
        return int(self.user()["id"])

    def heal(self) -> None:
        if self.webhook is not None:
            self.healer.service.take_event(self.webhook)
            while self.healer.service.background.drain_inbox():
                pass
        super().heal()


def arrives(phone: Phone) -> None:
    """The question is in the inbox."""
    phone.healer.service.take_event(phone.writes())


def is_answered(phone: Phone) -> None:
    """The reply is stored, and nobody has tried to deliver it."""
    arrives(phone)
    phone.healer.service.background.drain_inbox()
    phone.pass_time(1)
    healer = phone.healer
    healer.service.background.sweep()
    for one in healer.broker.woken:
        healer.service.answer(*one)
    for turn in healer.broker.submitted:
        turn()
    healer.broker.woken.clear()
    healer.broker.submitted.clear()
    healer.broker.deliveries.clear()
    assert [one["state"] for one in phone.deliveries()] == ["pending"]


def is_answered_at_length(phone: Phone) -> None:
    phone.gets_a_long_answer()
    is_answered(phone)


def nothing(_: Phone) -> None:
    """A scenario that needs no history."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What has happened before, what the child does, and which boundaries it crosses."""

    history: Callable[[Phone], None]
    step: Callable[[Phone], Step]
    crosses: tuple[str, ...]
    pieces: int = 1


SCENARIOS = {
    "a webhook": Scenario(
        history=nothing, step=lambda phone: ("event", (phone.writes(), None)), crosses=(PUT,)
    ),
    "the inbox": Scenario(history=arrives, step=lambda _: ("drain", None), crosses=(DRAIN,)),
    "a reply": Scenario(
        history=is_answered,
        step=lambda phone: ("deliver", phone.user_id()),
        crosses=(CLAIM_IT, COMPOSE, *SENT, CLAIM_IT),
    ),
    "a reply in two pieces": Scenario(
        history=is_answered_at_length,
        step=lambda phone: ("deliver", phone.user_id()),
        crosses=(CLAIM_IT, COMPOSE, *SENT, CLAIM_IT, *SENT, CLAIM_IT),
        pieces=2,
    ),
}


@pytest.fixture
def phone(world: World, healer: HandDrivenWorker) -> Phone:
    healer.service.background.workers.beat()
    return Phone(world=world, healer=healer, number=next(world._numbers))


def check(phone: Phone, *, pieces: int) -> None:
    """One answer, and each piece of it once, in order."""
    assert phone.inputs() == [[f"question of {phone.number};"]]
    assert [one["outcome"] for one in phone.rows("messages")] == ["answered"]
    deliveries = phone.deliveries()
    assert [one["state"] for one in deliveries] == ["sent"] * pieces
    texts = phone.texts()
    assert [one.id for one in texts] == [one["provider_id"] for one in deliveries]
    if pieces > 1:
        marks = [f"({number}/{pieces}) " for number in range(1, pieces + 1)]
        assert all(one.text.startswith(mark) for one, mark in zip(texts, marks, strict=True))
        whole = " ".join(
            one.text.removeprefix(mark) for one, mark in zip(texts, marks, strict=True)
        )
        assert whole.startswith(LONG.format(phone.number))


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_matrix_has_every_boundary_there_is(phone: Phone, name: str) -> None:
    scenario = SCENARIOS[name]
    scenario.history(phone)
    assert phone.crossed_by(scenario.step(phone)) == scenario.crosses
    phone.heal()
    check(phone, pieces=scenario.pieces)


@pytest.mark.parametrize(
    ("name", "stop"),
    points({name: one.crosses for name, one in SCENARIOS.items()}, signal.SIGKILL),
)
def test_a_kill_at_any_boundary_loses_and_doubles_nothing(
    phone: Phone, name: str, stop: Stop
) -> None:
    scenario = SCENARIOS[name]
    scenario.history(phone)
    phone.kill(scenario.step(phone), stop)
    phone.pass_time(LEASE_S + 60)
    phone.heal()
    check(phone, pieces=scenario.pieces)


@pytest.mark.parametrize("fault", ["stored_then_dropped", "stored_then_502_html", "send_lost"])
@pytest.mark.parametrize("name", ["a reply", "a reply in two pieces"])
@pytest.mark.parametrize("which", [0, 1])
def test_telnyx_that_drops_its_answer_gets_the_same_message_again(
    phone: Phone, name: str, fault: str, which: int
) -> None:
    """`which`: the answer to the first or to the second request."""
    scenario = SCENARIOS[name]
    scenario.history(phone)
    if which == 0:
        phone.world.simulator.inject(fault, endpoint="send")
    phone.healer.service.deliver(phone.user_id())
    if which == 1:
        phone.world.simulator.inject(fault, endpoint="send")
    phone.pass_time(LEASE_S + 60)
    phone.heal()
    phone.world.simulator.clear_faults()
    check(phone, pieces=scenario.pieces)


def receipt(phone: Phone, status: str, *, key: str, provider_id: str) -> Step:
    errors = [{"code": "40002"}] if status in FAILED else []
    kind = "message.sent" if status in {"queued", "sending", "sent"} else "message.finalized"
    document = event(kind, outbound(status, id=provider_id, errors=errors))
    return ("event", (document, key))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_around_a_receipt_loses_nothing(phone: Phone, moment: Moment) -> None:
    is_answered(phone)
    phone.healer.service.deliver(phone.user_id())
    (sent,) = phone.deliveries()
    step = receipt(
        phone, "delivered", key=str(sent["idempotency_key"]), provider_id=sent["provider_id"]
    )
    stop = Stop(index=0, name=RECORD, moment=moment)
    phone.kill(step, stop)
    phone.healer.service.take_event(*step[1])
    assert [one["receipt"] for one in phone.deliveries()] == ["delivered"]
    check(phone, pieces=1)


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=[pytest.mark.slow] if n > 3 else []) for n in range(40)]
)
def test_receipts_in_any_order_and_before_the_answer_never_go_backwards(
    phone: Phone, seed: int
) -> None:
    """Some of them while the POST is still unanswered: its worker was killed."""
    random = Random(seed)  # noqa: S311
    is_answered(phone)
    stop = Stop(index=2, name="POST text message", moment="after")
    phone.kill(("deliver", phone.user_id()), stop)
    (sent,) = phone.deliveries()
    (text,) = phone.texts()
    last = random.choice(["delivered", "delivery_failed", "delivery_unconfirmed"])
    statuses = ["queued", "sending", "sent", "sent", last]
    random.shuffle(statuses)
    early = random.randrange(len(statuses) + 1)
    shown = []
    for number, status in enumerate(statuses):
        if number == early:
            phone.pass_time(LEASE_S + 60)
            phone.healer.service.deliver(phone.user_id())
        step = receipt(phone, status, key=str(sent["idempotency_key"]), provider_id=text.id)
        phone.healer.service.take_event(*step[1])
        shown.append(phone.deliveries()[0]["receipt"])
    phone.pass_time(LEASE_S + 60)
    phone.healer.service.deliver(phone.user_id())
    (row,) = phone.deliveries()
    assert row["receipt"] == last
    ranks = ["queued", "sending", "sent", last]
    assert shown == sorted(shown, key=ranks.index)
    assert row["state"] == ("failed" if last in FAILED else "sent")
    assert row["receipt_error"] == ("40002" if last in FAILED else None)
    assert len(phone.texts()) == 1
    assert row["due_at"] is None
