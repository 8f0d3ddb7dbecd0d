"""The commands around conversations, on real Postgres and the simulator."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.support.cli import Said, invoke_in
from tests.support.world import NAMESPACE, USER, HandDrivenWorker, World
from worker.domain.deliveries import DeliveryOutcome, OutgoingReply, Sent
from worker.domain.errors import StaleLeaseError
from worker.domain.ids import ChannelUserId
from worker.domain.messages import ChannelAddress
from worker.domain.turns.reconcile import HUMAN_KEY
from worker.handlers.turns.find_conversation import USER_KEY, user_tag
from worker.sandbox.simulator import Endpoint, Match
from worker.sandbox.simulator.behaviour.model import tokens
from worker.store.operators.interventions import LockedUser

QUIET_S = 2 + 75 + 90 + 13
TO_A_SINK = '[channels.sms.delivery]\ntask = "unused"\nqueue = "unused"\n'
WHO = f"sms:{USER}"


pytestmark = pytest.mark.simulator(reasoning=False)


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


# --- list and show -----------------------------------------------------------------------------


def test_conversations_are_listed_without_who_they_are_with(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    mike.receive(world.envelope("hello", channel="web", user="anna"))
    assert run(world, "conversations", "reset", "web:anna").returncode == 0

    (one,) = told(world, "conversations", "list")
    assert one["telnyx_id"] == world.simulator.conversations()[0].id
    assert (one["user"], one["channel"], one["agent"], one["turns"]) == (1, "sms", "default", 1)
    closed, _ = told(world, "conversations", "list", "--all")
    assert closed["why"] == "reset"
    assert told(world, "conversations", "list", "web:anna") == []
    assert len(told(world, "conversations", "list", "web:anna", "--all")) == 1
    assert told(world, "conversations", "list", "--channel", "web") == []
    assert told(world, "conversations", "list", "--agent", "nobody") == []
    shown = run(world, "conversations", "list").stdout
    assert USER not in shown


def test_a_thread_stands_beside_our_turns_and_texts_only_where_asked_for(world: World) -> None:
    diverge(world)
    shown = told(world, "conversations", "show", WHO)

    assert [(row["verdict"], row["role"], row["turn"], row["calls"]) for row in shown["rows"]] == [
        ("matches", "user", 1, ["done"]),
        ("answer", "assistant", None, []),
        ("only there", "user", None, []),
        ("only here", None, 2, ["unknown"]),
    ]
    assert shown["rows"][0]["chars"] == len("hello")
    for order in (("show", WHO), ("show", WHO, "--json"), ("list",), ("list", "--json")):
        said = run(world, "conversations", *order).stdout
        assert not any(one in said for one in ("hello", "stranger", "open?", USER))
    by_id = told(world, "conversations", "show", newest(world), "--texts")
    assert [row["text"] for row in by_id["rows"]][2:] == ["a stranger's words", "are you open?"]
    *_, asked, answer, foreign, ours = run(
        world, "conversations", "show", WHO, "--texts"
    ).stdout.splitlines()
    assert asked == "user>      hello"
    assert answer.startswith("assistant> ")
    assert foreign == "user>      a stranger's words  (only there)"
    assert ours == "user>      are you open?  (only here, turn 2 open)"


def test_what_a_stranger_wrote_in_between_makes_the_turns_after_it_differ(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("one"))
    world.simulator.append_foreign_message(newest(world), "a stranger's words")
    mike.receive(world.envelope("two"))

    rows = told(world, "conversations", "show", "1")["rows"]
    users = [(row["verdict"], row["turn"]) for row in rows if row["role"] == "user"]
    assert users == [("matches", 1), ("differs", 2), ("only there", None)]


def test_a_thread_that_is_gone_is_said(world: World) -> None:
    world.worker().receive(world.envelope("hello"))
    world.simulator.delete_conversation(newest(world))
    assert "reset it" in refused(world, "conversations", "show", WHO)
    assert "no channel user has" in refused(world, "conversations", "show", str(uuid4()))


# --- reset -------------------------------------------------------------------------------------


def test_after_a_reset_the_next_turn_opens_a_fresh_conversation(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    before = newest(world)

    done = told(world, "conversations", "reset", WHO)
    assert done == {"user": 1, "agent": "default", "closed": 1, "open_turn": None}
    mike.receive(world.envelope("hello again"))
    assert newest(world) != before
    assert thread(world, newest(world)) == ["hello again"]
    assert told(world, "conversations", "reset", WHO)["closed"] == 2
    assert told(world, "conversations", "reset", WHO)["closed"] is None


def test_a_diverged_user_goes_on_with_their_open_turn_after_a_reset(world: World) -> None:
    mike = diverge(world)
    assert told(world, "conversations", "reset", WHO)["open_turn"] == 2
    mike.answer()

    assert thread(world, newest(world)) == ["are you open?"]
    assert [row["outcome"] for row in world.messages()] == ["answered", "answered"]
    assert len(world.replies()) == 2
    assert world.database.value("SELECT diverged_at IS NULL FROM channel_users")
    events = world.database.rows("SELECT event FROM attempt_log ORDER BY id")
    assert [row["event"] for row in events] == ["diverged", "conversation.reset"]


@pytest.mark.parametrize("command", ["reset", "adopt", "say"])
def test_nothing_is_done_while_a_call_may_still_be_carried_out(world: World, command: str) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    order = {
        "reset": ("conversations", "reset", WHO),
        "adopt": ("conversations", "adopt", WHO, newest(world)),
        "say": ("say", WHO, "I am Jo", "--wait", "0"),
    }[command]
    world.simulator.inject("dropped")
    mike.receive(world.envelope("lost"))
    before = world.database.rows("SELECT * FROM channel_users")

    assert "Telnyx may still carry out a call of channel user 1: try again in 1" in refused(
        world, *order
    )
    assert world.database.rows("SELECT * FROM channel_users") == before
    assert world.database.value("SELECT count(*) FROM conversations") == 1
    wait(world, mike, QUIET_S + 1)
    assert run(world, *order).returncode == 0


@pytest.mark.parametrize("command", ["reset", "adopt", "say"])
def test_nothing_is_done_while_a_living_worker_is_at_work(world: World, command: str) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    order = {
        "reset": ("conversations", "reset", WHO),
        "adopt": ("conversations", "adopt", WHO, newest(world)),
        "say": ("say", WHO, "I am Jo", "--wait", "0"),
    }[command]
    world.database.run(
        "UPDATE channel_users SET lease_owner = (SELECT id FROM workers),"
        " lease_until = service_now() + interval '90 s'"
    )
    assert "a worker is at work on channel user 1: try again" in refused(world, *order)
    world.clock.advance(16)  # its heartbeat has stopped
    assert run(world, *order).returncode == 0


def test_who_held_the_lease_before_a_command_writes_nothing_any_more(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    before = world.database.value("SELECT lease_token FROM channel_users")
    told(world, "conversations", "reset", WHO)
    assert world.database.value("SELECT lease_token FROM channel_users") == before + 1

    store = mike.operator.adopt.store
    user = store.take(ChannelUserId(1))
    store.take(ChannelUserId(1))
    mike.receive(world.envelope("hello again"))
    conversation = store.take(ChannelUserId(1)).open[0]
    with pytest.raises(StaleLeaseError):
        store.reset(user, conversation)
    assert world.database.value("SELECT closed_at IS NULL FROM conversations WHERE id = 2")


# --- adopt -------------------------------------------------------------------------------------


def test_a_conversation_made_elsewhere_is_gone_on_with(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    made = mike.operator.adopt.telnyx.create(uuid4(), "elsewhere", {USER_KEY: "x", "theirs": "1"})
    other = str(made.id)
    world.simulator.append_foreign_message(other, "from before")

    assert "tag of another" in refused(world, "conversations", "adopt", WHO, other)
    done = told(world, "conversations", "adopt", WHO, other, "--force")
    assert done["base_user_messages"] == 1
    assert done["telnyx_told"] is True
    mike.receive(world.envelope("and now"))
    assert thread(world, other) == ["from before", "and now"]
    tag = user_tag(
        NAMESPACE, ChannelAddress(channel="sms", recipient="", address=USER, thread=""), "default"
    )
    (tagged,) = [one for one in world.simulator.conversations() if one.id == other]
    assert (tagged.metadata[USER_KEY], tagged.metadata["theirs"]) == (tag, "1")
    rows = world.database.rows("SELECT close_reason FROM conversations ORDER BY id")
    assert [row["close_reason"] for row in rows] == ["adopted", None]


def test_a_lost_answer_on_an_adopted_conversation_is_found_there(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    before = newest(world)
    told(world, "conversations", "reset", WHO)
    mike.receive(world.envelope("elsewhere"))
    told(world, "conversations", "adopt", WHO, before)
    world.simulator.inject("stored_then_dropped")
    mike.receive(world.envelope("are you open?"))
    wait(world, mike, 3)

    assert world.replies()[-1]["source"] == "adopted"
    assert thread(world, before) == ["hello", "are you open?"]


@pytest.mark.parametrize(
    ("other", "wanted"),
    [("of somebody else", "belongs to channel user 2"), ("nowhere", "Telnyx has no conversation")],
)
def test_what_cannot_be_adopted_is_refused(world: World, other: str, wanted: str) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    mike.receive(world.envelope("hello", user="+13125550009"))
    telnyx_id = newest(world) if other == "of somebody else" else str(uuid4())
    assert wanted in refused(world, "conversations", "adopt", WHO, telnyx_id, "--force")
    assert world.database.value("SELECT count(*) FROM conversations WHERE closed_at IS NULL") == 2


def test_a_diverged_user_goes_on_on_their_own_conversation_when_it_is_counted_anew(
    world: World,
) -> None:
    mike = diverge(world)
    done = told(world, "conversations", "adopt", WHO, newest(world))
    assert (done["base_user_messages"], done["open_turn"]) == (2, 2)
    world.simulator.inject("dropped")  # so that it is read back before it is sent once more
    mike.answer()
    wait(world, mike, QUIET_S + 1)

    assert thread(world, newest(world)) == ["hello", "a stranger's words", "are you open?"]
    assert [row["source"] for row in world.replies()] == ["call", "call"]
    world.simulator.inject("stored_then_dropped")
    mike.receive(world.envelope("thanks"))
    wait(world, mike, 3)
    assert world.replies()[-1]["source"] == "adopted"


def test_words_that_had_landed_behind_a_strangers_are_not_sent_again(world: World) -> None:
    mike = diverge(world, "stored_then_dropped")
    done = told(world, "conversations", "adopt", WHO, newest(world))
    assert done["base_user_messages"] == 2
    mike.answer()

    assert thread(world, newest(world)) == ["hello", "a stranger's words", "are you open?"]
    assert [row["source"] for row in world.replies()] == ["call", "adopted"]


def test_words_that_a_stranger_wrote_after_are_not_guessed_about(world: World) -> None:
    mike = diverge(world, "foreign_message_after")
    assert "reset instead" in refused(world, "conversations", "adopt", WHO, newest(world))
    told(world, "conversations", "reset", WHO)
    mike.answer()
    assert [row["outcome"] for row in world.messages()] == ["answered", "answered"]


# --- say ---------------------------------------------------------------------------------------


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


# --- usage -------------------------------------------------------------------------------------


def counted(world: World, conversation: str) -> tuple[int, int]:
    """What the simulator counted for a thread: read and written tokens."""
    messages = world.simulator.messages(conversation)
    answers = [at for at, one in enumerate(messages) if one.role == "assistant"]
    read = sum(tokens(messages[:at]) for at in answers)
    return read, sum(len(messages[at].text or "") // 4 + 1 for at in answers)


def test_usage_is_what_telnyx_counted_by_whatever_is_asked_for(world: World) -> None:
    mike = world.worker()
    for channel, user in (("sms", USER), ("web", "anna"), ("sms", USER)):
        mike.receive(world.envelope("how are you today?", channel=channel, user=user))
    sms, web = (counted(world, one.id) for one in world.simulator.conversations())
    world.simulator.inject("dropped")
    mike.receive(world.envelope("lost", channel="web", user="anna"))

    shown = told(world, "usage", "--by", "channel")
    assert shown["groups"] == [
        {
            "channel": "sms",
            "turns": 2,
            "calls": 2,
            "uncounted_calls": 0,
            "input_tokens": sms[0],
            "output_tokens": sms[1],
        },
        {
            "channel": "web",
            "turns": 2,
            "calls": 2,
            "uncounted_calls": 1,
            "input_tokens": web[0],
            "output_tokens": web[1],
        },
    ]
    (model,) = told(world, "usage", "--by", "model")["groups"]
    assert model["model"] == "zai-org/GLM-5.3-Flash"
    assert model["input_tokens"] == sms[0] + web[0]
    other = '[agents.default]\nmodel = "another"\n'
    (unknown,) = told(world, "usage", "--by", "model", agents=other)["groups"]
    assert unknown["model"].startswith("unknown (default, version ")
    usual = told(world, "usage")["groups"]
    assert [(one["agent"], one["channel"]) for one in usual] == [
        ("default", "sms"),
        ("default", "web"),
    ]
    assert str(sms[0]) in run(world, "usage").stdout


def test_usage_shows_what_is_used_of_todays_budgets(world: World) -> None:
    agents = (
        "default_agent = 'one'\n[agents.one.budget]\nmessages = 5\ntokens = 900\n"
        "[agents.two.budget]\ntokens = 9\n[agents.three.budget]\nmessages_per_user = 1\n"
    )
    mike = world.worker(agents)
    mike.receive(world.envelope("hello"))
    used = sum(counted(world, world.simulator.conversations()[0].id))

    assert told(world, "usage", agents=agents)["budgets"] == [
        {"agent": "one", "of": "messages", "limit": 5, "used": 1},
        {"agent": "one", "of": "tokens", "limit": 900, "used": used},
        {"agent": "two", "of": "tokens", "limit": 9, "used": 0},
    ]
    said = run(world, "usage", agents=agents).stdout
    assert "agent one has used 1 of 5 messages today, UTC" in said


def test_usage_counts_the_days_that_are_given_both_included_in_utc(world: World) -> None:
    mike = world.worker()
    for day in ("2026-03-01T23:59:59Z", "2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"):
        mike.receive(world.envelope("hello"))
        world.database.run(
            "UPDATE calls SET intent_at = %s WHERE id = (SELECT max(id) FROM calls)", day
        )
    between = ("--by", "day", "--since", "2026-03-01", "--until", "2026-03-02")
    shown = told(world, "usage", *between)
    assert [(one["day"], one["calls"]) for one in shown["groups"]] == [
        ("2026-03-01", 1),
        ("2026-03-02", 1),
    ]
    assert told(world, "usage", "--until", "2026-03-31")["since"] == "2026-03-02"
    wrong = run(world, "usage", "--since", "2026-03-02", "--until", "2026-03-01")
    assert wrong.returncode == 2
    assert "no calls from" in run(world, "usage", "--until", "2020-01-01").stdout
