"""What a person of ours says by a command: once, in order, and into the thread."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

import pytest

from tests.support.conversations import (
    TO_A_SINK,
    WHO,
    Sink,
    newest,
    refused,
    run,
    thread,
    told,
    wait,
)
from tests.support.world import World
from worker.domain.ids import ChannelUserId
from worker.domain.turns.reconcile import HUMAN_KEY
from worker.sandbox.simulator import Endpoint, Match
from worker.store.operators.interventions import LockedUser

pytestmark = pytest.mark.simulator(reasoning=False)


def in_thread(world: World) -> list[tuple[str, bool]]:
    """Who said each message of the newest thread, and whether it was one of us."""
    messages = world.simulator.messages(newest(world))
    return [(one.role, HUMAN_KEY in one.metadata) for one in messages]


def test_what_a_person_says_while_paused_goes_out_in_order_and_into_the_thread(
    world: World,
) -> None:
    sink = Sink()
    mike = world.worker(TO_A_SINK, channels={"sms": sink})
    mike.receive(world.envelope("hello"))
    mike.deliver()
    run(world, "pause", WHO)
    mike.receive(world.envelope("is anybody there?"))
    for text in ("I am Jo", "how can I help?"):
        said = told(world, "say", WHO, text, agents=TO_A_SINK)
        assert said["in_thread"]
        mike.answer()
    mike.service.deliver(ChannelUserId(1))
    assert sink.texts[1:] == ["I am Jo", "how can I help?"], "although the user is paused"
    run(world, "resume", WHO)
    mike.receive(world.envelope("are you open?"))
    mike.deliver()

    assert "are you open?" in sink.texts[3]
    assert in_thread(world) == [
        ("user", False),
        ("assistant", False),
        ("user", False),
        ("assistant", True),
        ("assistant", True),
        ("user", False),
        ("assistant", False),
    ]
    assert [row["source"] for row in world.replies()] == ["call", "human", "human", "call"]
    rows = told(world, "conversations", "show", WHO)["rows"]
    assert {row["verdict"] for row in rows} == {"matches", "answer", "said"}


def test_a_lost_answer_right_after_a_persons_words_is_found(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    told(world, "say", WHO, "I am Jo")
    mike.answer()
    world.simulator.inject("stored_then_dropped")
    mike.receive(world.envelope("are you open?"))
    wait(world, mike, 3)

    assert thread(world, newest(world)) == ["hello", "are you open?"]
    assert [row["source"] for row in world.replies()] == ["call", "human", "adopted"]
    assert world.database.value("SELECT landed FROM turns WHERE kind = 'human'") is False


def test_words_whose_way_to_the_thread_got_lost_are_added_once(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    lost = Match(endpoint=Endpoint.ADD_MESSAGE)
    world.simulator.inject("stored_then_dropped", match=lost, count=2)
    told(world, "say", WHO, "I am Jo")
    mike.answer()
    assert "turn 2 has not ended" in refused(world, "say", WHO, "still there?", "--wait", "0")
    only_delivered = told(world, "say", WHO, "one moment", "--deliver-only")
    assert not only_delivered["in_thread"]
    wait(world, mike, 3)

    assert in_thread(world) == [("user", False), ("assistant", False), ("assistant", True)]
    assert [row["text"] for row in world.replies()][1:] == ["I am Jo", "one moment"]
    assert world.database.value("SELECT open_turn_id IS NULL FROM channel_users")


@pytest.mark.parametrize("agents", ["", "[channels.sms]\npersist = false\n"])
def test_where_there_is_no_thread_words_are_only_delivered(world: World, agents: str) -> None:
    mike = world.worker(agents)
    mike.receive(world.envelope("hello"))
    if not agents:
        told(world, "conversations", "reset", WHO)
    said = told(world, "say", WHO, "I am Jo", agents=agents)

    assert not said["in_thread"]
    assert world.replies()[-1]["text"] == "I am Jo"
    assert world.database.value("SELECT state FROM turns WHERE kind = 'human'") == "answered"
    mike.receive(world.envelope("thanks"))
    assert [row["outcome"] for row in world.messages()] == ["answered", "answered"]


@pytest.mark.parametrize("text", ["", "  \n", "x" * 65_537])
def test_words_that_are_none_are_refused(world: World, text: str) -> None:
    world.worker().receive(world.envelope("hello"))
    assert "TEXT" in refused(world, "say", WHO, text)


class KilledError(Exception):
    """Stands for SIGKILL: nothing after it runs."""


@dataclass
class Dying:
    """A store whose process ends before or after one of its transactions."""

    store: object
    method: str
    moment: str

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if (name, self.moment) == (self.method, "before"):
                raise KilledError
            result = getattr(self.store, name)(*args, **kwargs)
            if name == self.method:
                raise KilledError
            return result

        return call


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("method", ["find", "take", "say"])
def test_a_command_killed_anywhere_has_said_it_once_or_not_at_all_and_may_be_repeated(
    world: World, method: str, moment: str
) -> None:
    sink = Sink()
    mike = world.worker(TO_A_SINK, channels={"sms": sink})
    mike.receive(world.envelope("hello"))
    key = UUID(int=7)
    say = mike.operator.say
    part = {"store": Dying(say.store, method, moment), "saying": Dying(say.saying, method, moment)}
    with pytest.raises(KilledError):
        replace(say, **part)(ChannelUserId(1), "I am Jo", key=key)
    said = (method, moment) == ("say", "after")
    assert world.database.value("SELECT count(*) FROM replies") == 1 + said

    again = told(world, "say", WHO, "I am Jo", "--key", str(key), agents=TO_A_SINK)
    assert again["again"] is said
    mike.answer()
    mike.service.deliver(ChannelUserId(1))
    assert sink.texts.count("I am Jo") == 1
    assert in_thread(world) == [("user", False), ("assistant", False), ("assistant", True)]
    assert told(world, "say", WHO, "I am Jo", "--key", str(key), agents=TO_A_SINK)["again"]


def test_two_at_once_under_one_key_say_it_once(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    told(world, "conversations", "reset", WHO)
    say, key = mike.operator.say, UUID(int=7)

    class Overtaken:
        """The other one says it between our look and our claim."""

        def take(self, user_id: ChannelUserId) -> LockedUser:
            say(user_id, "I am Jo", key=key)
            return say.store.take(user_id)

    second = replace(say, store=Overtaken())  # type: ignore[arg-type]
    assert second(ChannelUserId(1), "I am Jo", "default", key=key).again
    assert world.database.value("SELECT count(*) FROM replies WHERE source = 'human'") == 1
