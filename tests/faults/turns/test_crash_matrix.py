"""The crash matrix: a process that runs the handlers is killed, or freezes, at every boundary.

A boundary is a transaction, an HTTP request or a delivery. For each scenario a dry run writes down
which ones it crosses; they are pinned here, so that a new one gets its place in the matrix. After
each kill another worker takes over, the broker delivers the message again, and time passes.
"""

import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support import oracle
from tests.support.crashing import Job, Moment, Step, Stop, child, file_channels
from tests.support.databases import fresh_database
from tests.support.processes import eventually, open_folder
from tests.support.world import HandDrivenWorker, World, running_world
from worker.net.clock import boottime
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.simulator import Endpoint, Match, SimulatorConfig
from worker.sandbox.simulator.behaviour.plans import Storing, Wire
from worker.sandbox.simulator.record.events import ExecutionEnded, RequestReceived

AGENTS = """
[agents.default]
instructions = "be kind"
call_timeout_s = 5
[channels.keyed.delivery]
task = "unused"
queue = "unused"
[channels.bare.delivery]
task = "unused"
queue = "unused"
"""
SEND_GRACE_S = 0.5
IMPATIENT = f"{AGENTS}\n[timing]\nsend_grace_s = {SEND_GRACE_S}\n"
LEASE_S = 5 + 15 + 1
QUIET_S = 2 + 5 + 90 + 13
MOMENTS: tuple[Moment, ...] = ("before", "after")

START, ACCEPT, CLAIM = "StartStore.start", "MessageStore.accept", "ClaimStore.claim"
INTEND, POST, SETTLE = "TurnStore.record_intent", "POST response", "TurnStore.settle"
FIND, CREATE = "HTTP find", "HTTP create conversation"
AGES, LIST = "ClusterStore.ages", "HTTP list messages"
LOOK = (AGES, LIST, "TurnStore.history")
DELIVER = (
    "DeliveryStore.claim",
    "FileChannel.deliver",
    "DeliveryStore.end",
    "DeliveryStore.claim",
)


@dataclass(kw_only=True)
class Stage:
    """One case: a channel user of its own in the world of this module."""

    world: World
    healer: HandDrivenWorker
    number: int
    channel: str = "keyed"
    agents: str = AGENTS
    envelopes: list[dict[str, object]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"user{self.number}@example.org"

    @property
    def sink(self) -> Path:
        return self.world.folder / "sink.jsonl"

    def envelope(self, word: str, **fields: object) -> dict[str, object]:
        made = self.world.envelope(
            f"{word} of {self.number};", user=self.address, channel=self.channel, **fields
        )
        self.envelopes.append(made)
        return made

    def user(self) -> dict[str, Any]:
        (row,) = self.world.database.rows(
            "SELECT * FROM channel_users WHERE address = %s", self.address
        )
        return row

    def rows(self, table: str, condition: str = "true") -> list[dict[str, Any]]:
        """This user's rows."""
        return self.world.database.rows(
            f"SELECT t.* FROM {table} t JOIN channel_users u ON u.id = t.channel_user_id"
            f" WHERE u.address = %s AND {condition} ORDER BY t.id",
            self.address,
        )

    def delivered(self) -> list[dict[str, Any]]:
        """What the provider was asked to deliver, each attempt."""
        lines = self.sink.read_text().splitlines() if self.sink.exists() else []
        return [one for one in map(json.loads, lines) if one["to"] == self.address]

    def inputs(self) -> list[list[str]]:
        """What this user said at Telnyx, conversation by conversation, deleted ones left out."""
        simulator = self.world.simulator
        threads = [
            [one.text or "" for one in simulator.messages(each.id) if one.role == "user"]
            for each in simulator.conversations()
        ]
        return [texts for texts in threads if any(f" of {self.number};" in one for one in texts)]

    def job(self, *steps: Step, stop: Stop | None = None, agents: str | None = None) -> Job:
        number = next(self.world._numbers)
        agents_file = self.world.folder / f"child-{number}.toml"
        agents_file.write_text(agents or self.agents)
        return Job(
            database_url=self.world.database.url,
            telnyx_base_url=self.world.simulator.base_url,
            telnyx_api_key=self.world.simulator.api_key,
            agents_file=agents_file,
            sink=self.sink,
            journal=self.world.folder / f"journal-{number}",
            steps=steps,
            stop=stop,
            smtp_url=self.world.smtp_url,
        )

    def crossed_by(self, step: Step) -> tuple[str, ...]:
        """Let a child do this; return the boundaries that it crosses."""
        with child(self.job(step)) as dry_run:
            assert dry_run.wait() == 0
            return tuple(dry_run.boundaries())

    def kill(self, step: Step, stop: Stop) -> None:
        """Let a child do this until it is killed."""
        with child(self.job(step, stop=stop)) as killed:
            assert killed.wait() == -signal.SIGKILL

    def pass_time(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        self.healer.service.background.workers.beat()

    def heal(self) -> None:
        """The broker brings everything again, and time passes until all has ended."""
        for envelope in self.envelopes:
            self.healer.accept_only(envelope)
        for _ in range(40):
            self.healer.answer()
            if overdue := self.rows("deliveries", "t.due_at <= service_now()"):
                self.healer.service.deliver(overdue[0]["channel_user_id"])
            waiting = self.rows("messages", "outcome IS NULL")
            if not waiting and not self.rows("deliveries", "t.due_at IS NOT NULL"):
                return
            self.pass_time(15)
        raise AssertionError(f"not final: {self.rows('messages')}")


def nothing(_: Stage) -> None:
    """A scenario that needs no history."""


def doubt(stage: Stage) -> None:
    """Postgres may have lost conversations."""
    stage.world.database.run("UPDATE cluster SET complete_at = NULL")


def greet(stage: Stage) -> None:
    stage.healer.receive(stage.envelope("greeting"))
    stage.healer.deliver()


def lose_the_answer(stage: Stage, fault: str = "stored_then_dropped", pause_s: float = 3) -> None:
    envelope = stage.envelope("question")
    stage.world.simulator.inject(fault, match=Match(text=str(envelope["text"])))
    stage.healer.receive(envelope)
    stage.pass_time(pause_s)


def lose_the_question(stage: Stage) -> None:
    lose_the_answer(stage, "dropped", pause_s=QUIET_S + 1)


def lose_the_conversation(stage: Stage) -> None:
    greet(stage)
    (conversation,) = stage.rows("conversations")
    stage.world.simulator.delete_conversation(str(conversation["telnyx_conversation_id"]))


def fail_over(stage: Stage) -> None:
    greet(stage)
    stage.world.database.run(
        "INSERT INTO cluster (replaced_at) VALUES (service_now())"
        " ON CONFLICT (one) DO UPDATE SET replaced_at = excluded.replaced_at"
    )
    stage.pass_time(16)


def take_over(stage: Stage) -> None:
    greet(stage)
    stage.world.database.run(
        "UPDATE channel_users SET paused_at = service_now() WHERE address = %s", stage.address
    )


def leave_a_reply(stage: Stage) -> None:
    stage.healer.receive(stage.envelope("question"))
    stage.healer.broker.deliveries.clear()


def receive(stage: Stage) -> Step:
    return ("receive", stage.envelope("question"))


def receive_with_a_time(stage: Stage) -> Step:
    """An earlier one may still be on its way: the turn is not started with the acceptance."""
    sent_at = stage.world.database.value("SELECT service_now()").isoformat()
    return ("receive", stage.envelope("question", sent_at=sent_at))


def answer(stage: Stage) -> Step:
    return ("answer", stage.user()["id"])


def deliver(stage: Stage) -> Step:
    return ("deliver", stage.user()["id"])


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What has happened before, what the child does, and which boundaries it crosses."""

    history: Callable[[Stage], None] = nothing
    step: Callable[[Stage], Step]
    crosses: tuple[str, ...]
    channel: str = "keyed"
    inputs: tuple[tuple[str, ...], ...] = (("question",),)
    """The user's words at Telnyx in the end, conversation by conversation."""
    outcome: str = "answered"
    """Of the newest message."""


SCENARIOS: dict[str, Scenario] = {
    "first message": Scenario(
        step=receive,
        crosses=(START, CREATE, INTEND, POST, SETTLE, *DELIVER),
    ),
    "first message, held back": Scenario(
        history=doubt,
        step=receive_with_a_time,
        crosses=(START, ACCEPT, CLAIM, FIND, CREATE, INTEND, POST, SETTLE, *DELIVER),
    ),
    "second message": Scenario(
        history=greet,
        step=receive,
        crosses=(START, POST, SETTLE, *DELIVER),
        inputs=(("greeting", "question"),),
    ),
    "second message, held back": Scenario(
        history=greet,
        step=receive_with_a_time,
        crosses=(START, ACCEPT, CLAIM, POST, SETTLE, *DELIVER),
        inputs=(("greeting", "question"),),
    ),
    "adopting": Scenario(
        history=lose_the_answer,
        step=answer,
        crosses=(CLAIM, *LOOK, SETTLE, *DELIVER),
    ),
    "sending again": Scenario(
        history=lose_the_question,
        step=answer,
        crosses=(CLAIM, *LOOK, INTEND, POST, SETTLE, *DELIVER),
    ),
    "replacing the conversation": Scenario(
        history=lose_the_conversation,
        step=receive,
        crosses=(
            *(START, POST, SETTLE, CLAIM, AGES, LIST, SETTLE),
            *(CLAIM, CREATE, INTEND, POST, SETTLE, "MessageStore.result", *DELIVER),
        ),
    ),
    "comparing after a failover": Scenario(
        history=fail_over,
        step=receive,
        crosses=(
            *(START, ACCEPT, CLAIM, *LOOK, "ConversationStore.compared"),
            *(INTEND, POST, SETTLE, *DELIVER),
        ),
        inputs=(("greeting", "question"),),
    ),
    "a person answers": Scenario(
        history=take_over,
        step=receive,
        crosses=(START, ACCEPT, CLAIM, "TurnStore.mark_human", "HTTP add message", SETTLE),
        inputs=(("greeting", "question"),),
        outcome="human",
    ),
    "delivering without a key": Scenario(
        history=leave_a_reply, step=deliver, crosses=DELIVER, channel="bare"
    ),
}


def points(
    crosses: Mapping[str, Sequence[str]], number: signal.Signals, *, since: str | None = None
) -> list[Any]:
    """Give every boundary of these scenarios, before and after it, as a test's parameters.

    Between one boundary and the next there is only Python: what is left before the next is what
    was left after the one, so these tests are `slow`. `since`: leave out what comes before it.
    """
    return [
        pytest.param(
            name,
            Stop(index=index, name=boundary, moment=moment, by=number),
            id=f"{name}: {moment} {index} {boundary}",
            marks=[pytest.mark.slow] if moment == "before" and index > first else [],
        )
        for name, boundaries in crosses.items()
        for first in [list(boundaries).index(since) if since else 0]
        for index, boundary in enumerate(boundaries)
        if index >= first
        for moment in MOMENTS
    ]


def crosses(*names: str) -> dict[str, Sequence[str]]:
    return {name: SCENARIOS[name].crosses for name in names}


@contextmanager
def audited_world(postgres: EmbeddedPostgres) -> Iterator[World]:
    """Have a world, and at its end hold all invariants against what is left in it."""
    config = SimulatorConfig(list_visible_after_s=0)
    with (
        fresh_database(postgres) as url,
        open_folder() as folder,
        running_world(url, folder, config) as made,
    ):
        yield made
        seen = oracle.Expectations(slack_s=0.2)
        assert oracle.check(made.database, made.simulator.log(), seen) == []


@pytest.fixture(scope="module")
def world(shared_postgres: EmbeddedPostgres) -> Iterator[World]:
    with audited_world(shared_postgres) as made:
        yield made


@pytest.fixture(scope="module")
def healer(world: World) -> HandDrivenWorker:
    # Not the healer, who would know Postgres' clock from then on.
    assert world.compare_with_telnyx(world.worker())
    return world.worker(AGENTS, channels=file_channels(world.folder / "sink.jsonl"))


@pytest.fixture
def stage(world: World, healer: HandDrivenWorker) -> Stage:
    healer.service.background.workers.beat()
    return Stage(world=world, healer=healer, number=next(world._numbers))


def play(stage: Stage, scenario: Scenario) -> Step:
    """Let the scenario's history happen; gives what the child is to do."""
    stage.channel = scenario.channel
    stage.world.database.run("UPDATE cluster SET complete_at = service_now()")
    scenario.history(stage)
    return scenario.step(stage)


def check(stage: Stage, scenario: Scenario) -> None:
    """Hold this user's part of the invariants against Telnyx's log, the provider and the tables."""
    words = [[f"{word} of {stage.number};" for word in thread] for thread in scenario.inputs]
    assert stage.inputs() == words
    messages = stage.rows("messages")
    assert len(messages) == len(stage.envelopes)
    assert [one["outcome"] for one in messages[:-1]] == ["answered"] * (len(messages) - 1)
    assert messages[-1]["outcome"] == scenario.outcome
    turns = stage.rows("turns")
    assert [turn["input_text"] for turn in turns] == [one["text"] for one in stage.envelopes]
    user = stage.user()
    assert (user["lease_owner"], user["due_at"], user["open_turn_id"]) == (None, None, None)
    assert stage.rows("calls", "state = 'intended'") == []
    check_replies(stage, answered=len(turns) - (scenario.outcome == "human"))


def check_replies(stage: Stage, *, answered: int) -> None:
    """One reply a turn, each to its own words; delivered in order and as often as may be."""
    replies = stage.world.database.rows(
        "SELECT r.text, t.input_text, d.state FROM replies r JOIN turns t ON t.id = r.turn_id"
        " JOIN deliveries d ON d.reply_id = r.id JOIN channel_users u ON u.id = t.channel_user_id"
        " WHERE u.address = %s ORDER BY r.id",
        stage.address,
    )
    assert len(replies) == answered
    assert all(reply["input_text"] in reply["text"] for reply in replies)
    attempts = stage.delivered()
    accepted = {one["key"]: one["text"] for one in attempts}
    if stage.channel == "keyed":
        assert {reply["state"] for reply in replies} == {"sent"}
        assert list(accepted.values()) == [reply["text"] for reply in replies]
    else:
        assert len(attempts) == len(accepted) <= len(replies), "at most once"
        gone = [reply for reply in replies if reply["state"] != "sent"]
        assert {reply["state"] for reply in gone} <= {"unknown"}
        assert len(replies) - len(accepted) <= len(gone), "nothing is lost without a word"


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_matrix_has_every_boundary_there_is(stage: Stage, name: str) -> None:
    scenario = SCENARIOS[name]
    step = play(stage, scenario)
    assert stage.crossed_by(step) == scenario.crosses
    check(stage, scenario)


@pytest.mark.parametrize(("name", "stop"), points(crosses(*SCENARIOS), signal.SIGKILL))
def test_a_kill_at_any_boundary_loses_and_doubles_nothing(
    stage: Stage, name: str, stop: Stop
) -> None:
    scenario = SCENARIOS[name]
    step = play(stage, scenario)
    stage.kill(step, stop)
    stage.heal()
    check(stage, scenario)


@pytest.mark.parametrize("endpoint", [Endpoint.CREATE, Endpoint.RESPONSES])
@pytest.mark.parametrize("storing", [Storing.WHOLE, Storing.AFTER_CLIENT_LEFT])
def test_a_kill_in_the_middle_of_a_request_loses_and_doubles_nothing(
    stage: Stage, endpoint: Endpoint, storing: Storing
) -> None:
    scenario = SCENARIOS["first message"]
    step = play(stage, scenario)
    simulator = stage.world.simulator
    simulator.inject(
        "hang", match=Match(endpoint=endpoint), storing=storing, wire=Wire.HANG, after_s=1.0
    )
    with child(stage.job(step)) as killed:
        assert eventually(lambda: not simulator.pending_faults())
        killed.send(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
    stage.pass_time(LEASE_S)
    stage.healer.answer()  # looks while Telnyx may still be at work on it
    assert eventually(lambda: nothing_is_at_work(stage.world))  # well within T_QUIET
    stage.heal()
    check(stage, scenario)


def nothing_is_at_work(world: World) -> bool:
    """Whether Telnyx has carried out every request it ever received."""
    events = [(entry.seq, entry.event) for entry in world.simulator.log()]
    received = {number for number, event in events if isinstance(event, RequestReceived)}
    return received == {event.request for _, event in events if isinstance(event, ExecutionEnded)}


@pytest.mark.parametrize(
    ("name", "stop"),
    points(
        crosses("first message", "adopting", "sending again", "a person answers"), signal.SIGSTOP
    ),
)
def test_who_wakes_up_after_their_lease_writes_nothing_and_sends_nothing(
    stage: Stage, name: str, stop: Stop
) -> None:
    scenario = SCENARIOS[name]
    step = play(stage, scenario)
    sleep_through_the_lease(stage, step, stop, agents=IMPATIENT)
    check(stage, scenario)


def sleep_through_the_lease(stage: Stage, step: Step, stop: Stop, *, agents: str) -> None:
    """Freeze a child, let another worker do all, wake the child up: it must not write a thing."""
    with child(stage.job(step, stop=stop, agents=agents)) as frozen:
        assert eventually(lambda: frozen.is_frozen)
        frozen_at = boottime()
        stage.pass_time(LEASE_S)
        stage.heal()
        assert eventually(lambda: boottime() > frozen_at + SEND_GRACE_S)
        before = tables(stage)
        frozen.send(signal.SIGCONT)
        assert frozen.wait() == 0
    assert tables(stage) == before


def tables(stage: Stage) -> list[object]:
    """Everything that is written down of this user."""
    names = ("conversations", "turns", "calls", "messages", "deliveries")
    return [stage.user(), *(stage.rows(name) for name in names)]
