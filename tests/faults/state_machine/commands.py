"""The steps of a schedule, as values: drawn from a seed, shrunk, and printed by a failure.

A step that makes no sense at its moment (a wake where none is on its way) does nothing, so that any
part of a schedule is a schedule too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import TypeAlias

from tests.faults.state_machine.stage import Hand, Stage
from tests.faults.state_machine.taps import Side, Trap

HANDS = 3


@dataclass(frozen=True)
class Receive:
    """An envelope arrives. `sent_ago_s` None = without `sent_at`."""

    hand: int
    person: int
    text: str = ""
    sent_ago_s: float | None = None
    slot: bool = True
    trap: Trap | None = None

    def do(self, stage: Stage) -> None:
        fields: dict[str, object] = {}
        if self.sent_ago_s is not None:
            fields["sent_at"] = stage.clock.moment(self.sent_ago_s).isoformat()
        text = self.text or f"number {len(stage.envelopes) + 1}"
        if (hand := free(stage, self.hand, self.trap)) is not None:
            stage.receive(hand, stage.envelope(self.person, text, **fields), slot=self.slot)


@dataclass(frozen=True)
class Repeat:
    """An envelope arrives again."""

    hand: int
    which: int

    def do(self, stage: Stage) -> None:
        hand = free(stage, self.hand)
        if hand is not None and stage.envelopes:
            stage.receive(hand, stage.envelopes[self.which % len(stage.envelopes)])


@dataclass(frozen=True)
class Sweep:
    """A sweeper looks; `away` = the broker cannot be reached."""

    hand: int
    away: bool = False
    follow: bool = True
    trap: Trap | None = None

    def do(self, stage: Stage) -> None:
        if (hand := free(stage, self.hand, self.trap)) is None:
            return
        stage.broker.away = self.away
        stage.sweep(hand)
        stage.broker.away = False
        while self.follow and stage.broker.woken and not hand.held:
            stage.follow(hand)


@dataclass(frozen=True)
class Follow:
    """A worker takes a wake, which may be on the queue twice."""

    hand: int
    which: int
    doubled: bool = False

    def do(self, stage: Stage) -> None:
        woken = stage.broker.woken
        if self.doubled and woken:
            woken.append(woken[self.which % len(woken)])
        if (hand := free(stage, self.hand)) is not None:
            stage.follow(hand, self.which)


@dataclass(frozen=True)
class LoseWakes:
    """Redis loses everything."""

    def do(self, stage: Stage) -> None:
        stage.broker.woken.clear()
        stage.broker.deliveries.clear()


@dataclass(frozen=True)
class Deliver:
    """A worker takes a delivery's wake; `outcome` is what the provider does."""

    hand: int
    outcome: str = "sent"

    def do(self, stage: Stage) -> None:
        if (hand := free(stage, self.hand)) is not None:
            stage.sink.outcomes[:] = [self.outcome]
            stage.deliver(hand)


@dataclass(frozen=True)
class Advance:
    """Time passes."""

    seconds: float

    def do(self, stage: Stage) -> None:
        stage.advance(self.seconds)


@dataclass(frozen=True)
class GoOn:
    """A worker that was held goes on."""

    hand: int

    def do(self, stage: Stage) -> None:
        held = [hand for hand in stage.hands if hand.held]
        if held:
            stage.go(held[self.hand % len(held)])


@dataclass(frozen=True)
class Kill:
    """A worker is killed where it stands."""

    hand: int

    def do(self, stage: Stage) -> None:
        stage.kill(stage.hands[self.hand])


@dataclass(frozen=True)
class Silence:
    """A worker's heartbeats stop, or are heard again."""

    hand: int

    def do(self, stage: Stage) -> None:
        hand = stage.hands[self.hand]
        hand.beating = not hand.beating


@dataclass(frozen=True)
class Fault:
    """The next requests of its endpoint meet a fault."""

    name: str
    count: int = 1
    after_s: float = 1.0

    def do(self, stage: Stage) -> None:
        changes = {"after_s": self.after_s} if self.name in LATE else {}
        stage.telnyx.inject(self.name, count=self.count, **changes)


@dataclass(frozen=True)
class Poison:
    """What a person writes in a burst is refused again and again: whose fault it is gets judged."""

    hand: int
    person: int

    def do(self, stage: Stage) -> None:
        stage.telnyx.inject("400", count=6)
        for _ in range(2):
            Receive(self.hand, self.person, slot=False).do(stage)
        for seconds in (0.3, 16.0, 16.0, 16.0):
            stage.advance(seconds)
            Sweep(self.hand).do(stage)


@dataclass(frozen=True)
class Exhaust:
    """Three calls in a row are lost, and the last of them is executed much later."""

    hand: int
    person: int

    def do(self, stage: Stage) -> None:
        stage.telnyx.inject("dropped", count=2)
        stage.telnyx.inject("stored_late", after_s=89.0)
        Receive(self.hand, self.person).do(stage)
        for seconds in (190.0, 190.0, 3.0):
            stage.advance(seconds)
            Sweep(self.hand).do(stage)


@dataclass(frozen=True)
class Foreign:
    """Somebody else writes into a thread."""

    person: int

    def do(self, stage: Stage) -> None:
        if (conversation := stage.conversation(self.person)) is not None:
            stage.telnyx.write_foreign(str(conversation), "who is this?")


@dataclass(frozen=True)
class Pause:
    """A person takes over, or gives back."""

    person: int
    resume: bool = False

    def do(self, stage: Stage) -> None:
        stage.database.run(
            "UPDATE channel_users SET paused_at = CASE WHEN %s THEN NULL ELSE service_now() END"
            " WHERE id = %s",
            self.resume,
            stage.user_id(self.person),
        )


Command: TypeAlias = (
    Receive
    | Repeat
    | Sweep
    | Follow
    | LoseWakes
    | Deliver
    | Advance
    | GoOn
    | Kill
    | Silence
    | Fault
    | Exhaust
    | Poison
    | Foreign
    | Pause
)

LOST = (
    "stored_then_dropped",
    "dropped",
    "stored_then_reset",
    "reset",
    "stored_then_hang",
    "hang",
    "truncated",
    "empty",
    "cut",
    "408",
    "502_html",
    "stored_then_504_html",
    "input_then_dropped",
)
REFUSED = (
    "429",
    "429_retry_after",
    "500",
    "503",
    "400",
    "401",
    "stored_then_429",
    "stored_then_400",
    "stored_then_500",
    "stored_then_503",
    "stored_then_401",
)
CONVERSATIONS = ("creation_lost", "late_listing", "stale_reads", "conversation_deleted")
LATE = ("stored_late", "late_execution")
ANSWERS = ("no_message", "incomplete", "failed", "refusal")
POINTS: tuple[tuple[str, Side], ...] = (
    ("starts.start", "after"),
    ("claims.claim", "after"),
    ("turns.record_intent", "after"),
    ("telnyx.respond", "before"),
    ("telnyx.respond", "after"),
    ("telnyx.read", "after"),
    ("telnyx.create", "after"),
    ("turns.mark_human", "after"),
    ("telnyx.add", "after"),
    ("turns.settle", "before"),
    ("turns.settle", "after"),
    ("deliveries.claim", "after"),
    ("deliveries.end", "after"),
)


def free(stage: Stage, number: int, trap: Trap | None = None) -> Hand | None:
    """Give that worker, or the next one that is not held, with a trap; None = all are held."""
    order = stage.hands[number:] + stage.hands[:number]
    found = next((hand for hand in order if not hand.held), None)
    if found is not None and trap is not None:
        found.taps.traps[:] = [trap]
    return found


_HANDS = (0, 0, 0, 1, 1, 2)
_PEOPLE = (0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3)
_SECONDS = (0.3, 1.0, 2.1, 5.0, 11.0, 16.0, 16.0, 35.0, 95.0, 190.0, 400.0)
_OUTCOMES = ("sent", "sent", "refused", "lost", "unclear", "rejected")
_LATE_S = (1.0, 10.0, 60.0, 89.0)
Make: TypeAlias = Callable[[Random], Command]


def _trap(dice: Random) -> Trap | None:
    kind = dice.choice((None, None, "crash", "hold", "hold", "away"))
    if kind is None:
        return None
    if dice.random() < 0.4:
        return Trap(kind=kind, skip=dice.randrange(17), frozen=dice.random() < 0.5)
    point, side = dice.choice(POINTS)
    skip, frozen = dice.choice((0, 0, 1)), dice.random() < 0.5
    return Trap(kind=kind, point=point, side=side, skip=skip, frozen=frozen)


_WEIGHTED: tuple[tuple[int, Make], ...] = (
    (
        28,
        lambda dice: Receive(
            dice.choice(_HANDS),
            dice.choice(_PEOPLE),
            dice.choice(("", "", "ok")),
            dice.choice((None, None, None, 0.0, 1.0, 30.0)),
            dice.random() < 0.75,
            _trap(dice),
        ),
    ),
    (
        22,
        lambda dice: Sweep(
            dice.choice(_HANDS), dice.random() < 0.3, dice.random() < 0.7, _trap(dice)
        ),
    ),
    (16, lambda dice: Advance(dice.choice(_SECONDS))),
    (6, lambda dice: GoOn(dice.choice(_HANDS))),
    (6, lambda dice: Fault(dice.choice(LOST), dice.choice((1, 1, 2, 3)))),
    (5, lambda dice: Fault(dice.choice(REFUSED), dice.choice((1, 1, 2, 3)))),
    (3, lambda dice: Fault(dice.choice(LATE), 1, dice.choice(_LATE_S))),
    (3, lambda dice: Fault(dice.choice(CONVERSATIONS), dice.choice((1, 2)))),
    (1, lambda dice: Fault(dice.choice(ANSWERS))),
    (1, lambda dice: Exhaust(dice.choice(_HANDS), dice.choice(_PEOPLE))),
    (1, lambda dice: Poison(dice.choice(_HANDS), dice.choice(_PEOPLE))),
    (2, lambda dice: Repeat(dice.choice(_HANDS), dice.randrange(6))),
    (2, lambda dice: Follow(dice.choice(_HANDS), dice.randrange(4), dice.random() < 0.5)),
    (1, lambda _: LoseWakes()),
    (1, lambda dice: Kill(dice.choice(_HANDS))),
    (1, lambda dice: Silence(dice.choice(_HANDS))),
    (4, lambda dice: Deliver(dice.choice(_HANDS), dice.choice(_OUTCOMES))),
    (2, lambda dice: Pause(dice.choice(_PEOPLE), dice.random() < 0.5)),
    (1, lambda dice: Foreign(dice.choice(_PEOPLE))),
)


def draw(seed: str) -> list[Command]:
    """Draw the schedule of a seed. The weights let every counter of the campaign move."""
    dice = Random(seed)  # noqa: S311 # no secret
    makers = [make for _, make in _WEIGHTED]
    weights = [weight for weight, _ in _WEIGHTED]
    return [make(dice) for make in dice.choices(makers, weights, k=dice.randint(8, 26))]


def simpler(command: Command) -> Iterator[Command]:
    """Give simpler steps that may still show the same."""
    if isinstance(command, Receive | Sweep) and command.trap is not None:
        yield replace(command, trap=None)
        yield replace(command, trap=replace(command.trap, skip=0))
        yield replace(command, trap=replace(command.trap, frozen=True))
    if isinstance(command, Receive):
        yield replace(command, sent_ago_s=None)
        yield replace(command, person=0)
        yield replace(command, text="", slot=True)
    if isinstance(command, Sweep):
        yield replace(command, away=False, follow=True)
    if isinstance(command, Fault):
        yield replace(command, count=1)
    if isinstance(command, Advance):
        yield from (
            replace(command, seconds=each) for each in (1.0, 16.0) if each < command.seconds
        )
