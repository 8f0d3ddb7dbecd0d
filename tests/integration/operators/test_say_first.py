"""Our staff write to people who have never written: only where a channel allows it."""

from uuid import uuid4

import pytest

from message_worker_client.envelope import EnvelopeError
from tests.support.world import World
from worker.handlers.operators.take_user import NotPossibleError

ALLOWED = (
    '[channels.sms]\nsay_first = true\n[channels.sms.delivery]\ntask = "t"\nqueue = "q"\n'
    "[channels.email]\nsay_first = true\nignore_case = true\n"
)
PERSON = {"channel": "sms", "address": "+13125550009", "recipient": "+13125550100"}


def test_it_is_refused_unless_the_channel_says_so(world: World) -> None:
    with pytest.raises(NotPossibleError, match="say_first = true"):
        world.worker().operator.say.meet(**PERSON)
    assert world.database.value("SELECT count(*) FROM channel_users") == 0


def test_the_person_gets_the_text_and_answers_as_the_same_person(world: World) -> None:
    worker = world.worker(ALLOWED)
    for _ in range(2):  # a command that is repeated
        worker.operator.say.meet(**PERSON)
    (user,) = worker.operator.users.find(**PERSON)
    said = worker.operator.say(user, "Your parcel is here.", key=uuid4())
    worker.service.deliver(user)
    assert not said.in_thread
    assert [task for task, *_ in worker.broker.tasks] == ["t"]

    worker.receive(world.envelope("thanks", user=PERSON["address"], recipient=PERSON["recipient"]))
    worker.answer()
    assert world.database.value("SELECT count(*) FROM channel_users") == 1
    assert world.inputs() == ["thanks"]


def test_the_address_follows_the_rules_of_its_channel(world: World) -> None:
    say = world.worker(ALLOWED).operator.say
    with pytest.raises(EnvelopeError, match=r"user: on a telephone channel give E\.164"):
        say.meet(channel="sms", address="13125550009", recipient="")
    say.meet(channel="email", address="Ada@Example.com", recipient="")
    assert world.database.value("SELECT address FROM channel_users") == "ada@example.com"
