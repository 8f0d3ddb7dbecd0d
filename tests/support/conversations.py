"""Commands around conversations, and what they are about."""

import json
from dataclasses import dataclass, field
from typing import Any

from tests.support.cli import Said, invoke_in
from tests.support.world import USER, HandDrivenWorker, World
from worker.domain.deliveries import DeliveryOutcome, OutgoingReply, Sent

QUIET_S = 2 + 75 + 90 + 13
TO_A_SINK = '[channels.sms.delivery]\ntask = "unused"\nqueue = "unused"\n'
WHO = f"sms:{USER}"


@dataclass
class Sink:
    """A way out that remembers."""

    takes_key: bool = True
    texts: list[str] = field(default_factory=list)

    def deliver(self, reply: OutgoingReply) -> DeliveryOutcome:
        self.texts.append(reply.text)
        return Sent()


def run(world: World, *arguments: str, agents: str = "") -> Said:
    return invoke_in(world, *arguments, agents=agents)


def told(world: World, *arguments: str, agents: str = "") -> Any:  # noqa: ANN401 # whatever it is
    """What a command that goes well prints as JSON."""
    said = run(world, *arguments, "--json", agents=agents)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def refused(world: World, *arguments: str) -> str:
    """The one line of a command that is refused."""
    said = run(world, *arguments)
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    return said.stderr


def newest(world: World) -> str:
    return world.simulator.conversations()[-1].id


def thread(world: World, conversation: str) -> list[str]:
    """What users wrote in a thread."""
    return [one.text for one in world.simulator.messages(conversation) if one.role == "user"]


def wait(world: World, worker: HandDrivenWorker, seconds: float) -> None:
    world.clock.advance(seconds)
    worker.service.background.workers.beat(0.0)
    worker.answer()


def diverge(world: World, fault: str = "dropped") -> HandDrivenWorker:
    """Somebody else writes into the thread, and the answer of the next call is lost."""
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    if fault != "foreign_message_after":
        world.simulator.append_foreign_message(newest(world), "a stranger's words")
    world.simulator.inject(fault, **({"wire": "drop"} if "foreign" in fault else {}))
    mike.receive(world.envelope("are you open?"))
    wait(world, mike, QUIET_S + 1)
    assert world.database.value("SELECT diverged_at IS NOT NULL FROM channel_users")
    return mike
