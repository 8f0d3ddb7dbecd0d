"""A reply that waits for a person: if a process is killed, it goes out once, or not at all.

The worker is killed while it holds the reply or delivers it, and the one who approves while they
do. What was not decided is decided again, as a person would who saw no answer.
"""

import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests.faults.turns.test_crash_matrix import (
    ACCEPT,
    CLAIM,
    CREATE,
    DELIVER,
    FIND,
    INTEND,
    LEASE_S,
    POST,
    SETTLE,
    START,
    Stage,
    points,
)
from tests.support.crashing import Step, Stop
from tests.support.processes import eventually
from tests.support.world import HandDrivenWorker, World
from worker.domain.ids import ReplyId
from worker.domain.people.drafts import NOT_SENT
from worker.handlers.operators.drafts import AlreadyDecidedError

AGENTS = """
[agents.default]
call_timeout_s = 5
approve = "all"
[channels.keyed.delivery]
task = "unused"
queue = "unused"
"""
DECIDE = "DraftStore.decide"


class Desk(Stage):
    """A channel user whose replies wait, and a person who approves them."""

    edit: str | None = None

    def replies(self) -> list[dict[str, object]]:
        return self.world.database.rows(
            "SELECT r.id, r.text, r.source, d.state FROM replies r JOIN turns t ON t.id = r.turn_id"
            " JOIN deliveries d ON d.reply_id = r.id JOIN channel_users u"
            " ON u.id = t.channel_user_id WHERE u.address = %s ORDER BY r.id",
            self.address,
        )

    def newest(self) -> ReplyId:
        return ReplyId(int(str(self.replies()[-1]["id"])))

    def decide(self) -> None:
        """Approve what waits; what was decided before the kill is left as it is."""
        drafts = self.healer.operator.drafts
        with suppress(AlreadyDecidedError):
            if self.edit is None:
                drafts.approve(self.newest(), by="ada")
            else:
                drafts.edit(self.newest(), self.edit, by="ada")

    def heal(self) -> None:
        for envelope in self.envelopes:
            self.healer.accept_only(envelope)
        for _ in range(4):
            self.healer.answer()
            self.pass_time(LEASE_S + 60)
        self.decide()
        self.healer.service.deliver(self.user()["id"])
        self.pass_time(LEASE_S + 60)
        self.healer.service.deliver(self.user()["id"])
        # The sweeper of the healer may be at it, on a thread of its own.
        undone = "t.state IN ('pending', 'sending')"
        assert eventually(lambda: not self.rows("deliveries", undone))


def nothing(_: Desk) -> None:
    """Nobody has written yet."""


def waits(desk: Desk) -> None:
    desk.healer.receive(desk.envelope("question"))


def waits_for_an_edit(desk: Desk) -> None:
    waits(desk)
    desk.edit = f"the answer to question of {desk.number};"


def is_approved(desk: Desk) -> None:
    waits(desk)
    desk.decide()


def decides(desk: Desk) -> Step:
    return ("decide", (desk.newest(), desk.edit))


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What has happened before, what the child does, and which boundaries it crosses."""

    history: Callable[[Desk], None]
    step: Callable[[Desk], Step]
    crosses: tuple[str, ...]
    states: tuple[str, ...] = ("sent",)


SCENARIOS = {
    "it is held": Scenario(
        history=nothing,
        step=lambda desk: ("receive", desk.envelope("question")),
        crosses=(START, FIND, CREATE, INTEND, POST, SETTLE),
    ),
    "newer messages come": Scenario(
        history=waits,
        step=lambda desk: ("receive", desk.envelope("another question")),
        crosses=(START, ACCEPT, CLAIM, POST, SETTLE),
        states=("superseded", "sent"),
    ),
    "it is approved": Scenario(history=waits, step=decides, crosses=(DECIDE,)),
    "it is edited": Scenario(history=waits_for_an_edit, step=decides, crosses=(DECIDE,)),
    "it is delivered": Scenario(
        history=is_approved, step=lambda desk: ("deliver", desk.user()["id"]), crosses=DELIVER
    ),
}
POINTS = points({name: one.crosses for name, one in SCENARIOS.items()}, signal.SIGKILL)


@pytest.fixture
def desk(world: World, healer: HandDrivenWorker) -> Desk:
    healer.service.background.workers.beat()
    return Desk(world=world, healer=healer, number=next(world._numbers), agents=AGENTS)


def check(desk: Desk, scenario: Scenario) -> None:
    replies = desk.replies()
    assert tuple(one["state"] for one in replies) == scenario.states
    taken = {one["key"]: one["text"] for one in desk.delivered()}
    assert list(taken.values()) == [replies[-1]["text"]], "one reply, once"
    assert (replies[-1]["text"] == desk.edit) == (desk.edit is not None)
    first, *others = [turn["input_text"] for turn in desk.rows("turns")]
    assert not first.startswith("[")
    assert all(one.startswith(f"{NOT_SENT}\n") for one in others), "the model was told"


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_matrix_has_every_boundary_there_is(desk: Desk, name: str) -> None:
    scenario = SCENARIOS[name]
    scenario.history(desk)
    assert desk.crossed_by(scenario.step(desk)) == scenario.crosses
    desk.heal()
    check(desk, scenario)


@pytest.mark.parametrize(("name", "stop"), POINTS)
def test_a_kill_at_any_boundary_loses_and_doubles_nothing(
    desk: Desk, name: str, stop: Stop
) -> None:
    scenario = SCENARIOS[name]
    scenario.history(desk)
    desk.kill(scenario.step(desk), stop)
    desk.pass_time(LEASE_S + 60)
    desk.heal()
    check(desk, scenario)
