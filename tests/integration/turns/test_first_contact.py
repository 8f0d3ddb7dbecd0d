"""The first message of a person: when Telnyx is asked for an older conversation, and when not."""

import json
from typing import TypeGuard
from uuid import uuid4

import pytest

from tests.support.cli import invoke_in
from tests.support.world import World
from worker.domain.ids import installation_tag
from worker.sandbox.simulator import Endpoint, Match
from worker.sandbox.simulator.record.events import RequestReceived
from worker.telnyx.conversations import Conversations

FIRST = ["create", "responses"]
LOOKED_UP = ["list", *FIRST]


def telnyx(world: World) -> Conversations:
    return world.worker().service.background.ask_telnyx.telnyx


def created(world: World, **metadata: str) -> None:
    telnyx(world).create(uuid4(), "", {"source": "worker"} | metadata)


def is_list(event: object) -> TypeGuard[RequestReceived]:
    return isinstance(event, RequestReceived) and event.endpoint == "list"


def asked_for(world: World, user: str = "+13125550009") -> list[str]:
    """What the first message of a person asks Telnyx for."""
    before = len(world.requests())
    world.worker().receive(world.envelope("hello", user=user))
    assert world.messages()[-1]["outcome"] == "answered"
    return world.requests()[before:]


def test_telnyx_is_asked_until_it_has_shown_that_it_knows_nobody(world: World) -> None:
    assert asked_for(world, "+13125550001") == LOOKED_UP
    assert world.compare_with_telnyx(world.worker()), "the one conversation is known here"
    assert asked_for(world, "+13125550002") == FIRST
    assert asked_for(world, "+13125550002") == ["responses"]


def test_a_new_database_with_an_old_installation_at_telnyx_finds_its_people(world: World) -> None:
    world.worker().receive(world.envelope("hello", user="+13125550009"))
    world.database.run("TRUNCATE channel_users, conversations, cluster CASCADE")
    assert not world.compare_with_telnyx(world.worker())
    world.worker().receive(world.envelope("are you there?", user="+13125550009"))
    assert len(world.simulator.conversations()) == 1


def test_a_conversation_of_an_older_release_may_be_anybodys(world: World) -> None:
    created(world, worker_user="a tag")
    assert not world.compare_with_telnyx(world.worker())
    assert asked_for(world) == LOOKED_UP


def test_other_installations_and_programs_do_not_matter(world: World) -> None:
    created(world, worker_installation=str(installation_tag(uuid4())))
    created(world, source="worker-doctor")
    assert world.compare_with_telnyx(world.worker())
    assert asked_for(world) == FIRST


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE cluster SET complete_on = '1' || complete_on",
        "UPDATE cluster SET replaced_at = service_now()",
    ],
    ids=["another run of Postgres", "a restore was announced"],
)
def test_what_may_have_been_lost_is_looked_for(world: World, change: str) -> None:
    assert world.compare_with_telnyx(world.worker())
    world.database.run(change)
    assert asked_for(world) == LOOKED_UP


def test_another_namespace_has_its_own_history(world: World) -> None:
    assert world.compare_with_telnyx(world.worker())
    tag = installation_tag(uuid4())
    world.database.run(
        "UPDATE cluster SET complete_on = regexp_replace(complete_on, '[^ ]*$', %s)", str(tag)
    )
    assert asked_for(world) == LOOKED_UP


def test_after_a_restart_only_the_newest_conversations_are_compared(world: World) -> None:
    assert world.compare_with_telnyx(world.worker())
    world.database.run(
        "UPDATE cluster SET complete_on = '1' || complete_on, asked_at = '-infinity'"
    )
    assert asked_for(world, "+13125550001") == LOOKED_UP
    created(world, worker_installation=str(uuid4()))
    assert world.compare_with_telnyx(world.worker())
    asked = [one.event.path for one in world.simulator.log() if is_list(one.event)][-1]
    assert "worker_installation" in asked
    assert "created_at=gte" in asked
    assert asked_for(world, "+13125550002") == FIRST


def test_a_conversation_that_postgres_has_lost_keeps_the_question_open(world: World) -> None:
    assert world.compare_with_telnyx(world.worker())
    assert asked_for(world, "+13125550001") == FIRST
    assert asked_for(world, "+13125550002") == FIRST
    world.database.run(
        "UPDATE cluster SET complete_on = '1' || complete_on, asked_at = '-infinity'"
    )
    newest = "(SELECT max(id) FROM conversations)"
    world.database.run(f"UPDATE turns SET conversation_id = NULL WHERE conversation_id = {newest}")
    world.database.run(f"DELETE FROM conversations WHERE id = {newest}")
    for number in range(3, 6):
        assert not world.compare_with_telnyx(world.worker())
        assert asked_for(world, f"+1312555000{number}") == LOOKED_UP, "however many are new"
        world.clock.advance(4000)


def test_an_operator_ends_the_look_for_conversations_that_nobody_claims(world: World) -> None:
    created(world, worker_user="a tag")
    (stray,) = world.simulator.conversations()
    assert not world.compare_with_telnyx(world.worker())
    said = invoke_in(world, "conversations", "unknown", "--json")
    assert (said.returncode, json.loads(said.stdout)) == (1, [str(stray.id)])
    assert asked_for(world, "+13125550001") == LOOKED_UP
    world.clock.advance(7200)  # younger ones are compared again after a restart
    assert invoke_in(world, "conversations", "unknown", "--ignore").returncode == 0
    assert asked_for(world, "+13125550002") == FIRST
    world.database.run(
        "UPDATE cluster SET complete_on = '1' || complete_on, asked_at = '-infinity'"
    )
    assert invoke_in(world, "conversations", "unknown").returncode == 0, "after a restart, too"
    assert asked_for(world, "+13125550003") == FIRST


def test_a_creation_of_unknown_outcome_is_looked_for_and_not_repeated(world: World) -> None:
    assert world.compare_with_telnyx(world.worker())
    world.simulator.inject("stored_then_dropped", match=Match(endpoint=Endpoint.CREATE))
    assert asked_for(world) == ["create", "list", "list", "messages", "responses"]
    assert len(world.simulator.conversations()) == 1


def test_without_an_answer_telnyx_is_asked_again_an_hour_later(world: World) -> None:
    world.simulator.inject("dropped", match=Match(endpoint=Endpoint.LIST))
    assert not world.compare_with_telnyx(world.worker())
    assert not world.compare_with_telnyx(world.worker())
    assert world.requests() == ["list"]
    world.clock.advance(3600)
    assert world.compare_with_telnyx(world.worker())
