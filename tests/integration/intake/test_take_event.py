"""Events of Telnyx, from their document to what is stored."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from message_worker_client.envelope import EnvelopeError
from tests.support.telnyx_events import OURS, PERSON, event, inbound, whatsapp
from tests.support.world import World
from worker.config.agents_file import load_agents
from worker.domain.messages import Sender
from worker.domain.reasons import DeadLetterReason
from worker.handlers.intake.route import parse_and_route

DRIVERS = """
[channels.chat]
driver = "telnyx_whatsapp"
[channels.texts]
driver = "telnyx"
"""


def drained(drain: Callable[[], bool]) -> None:
    while drain():
        pass


def test_a_message_that_comes_twice_is_one_message_under_one_id(world: World) -> None:
    mike = world.worker()
    document = event("message.received", inbound())
    results = {mike.service.take_event(document) for _ in range(2)}
    drained(mike.service.background.drain_inbox)
    (row,) = world.database.rows("SELECT task_id, envelope->>'text' AS text FROM messages")
    assert row["text"] == "Are you open on Sunday?"
    assert row["task_id"].version == 5
    assert results == {f"queued task={row['task_id']}"}
    world.clock.advance(5)
    mike.answer()
    assert len(world.replies()) == 1


def test_the_channel_is_the_one_with_the_driver(world: World, tmp_path: Path) -> None:
    file = tmp_path / "agents.toml"
    file.write_text(DRIVERS)
    routing, _ = load_agents(file)
    take = replace(world.worker().service.take_event, routing=lambda: routing)
    body = {"type": "text", "text": {"body": "Hola"}}
    take(event("message.received", inbound()))
    take(event("message.received", whatsapp(body)))
    channels = world.database.rows("SELECT envelope->>'channel' AS name FROM inbox ORDER BY id")
    assert [one["name"] for one in channels] == ["texts", "chat"]


def test_somebody_who_hides_their_number_is_known_by_their_id(world: World, tmp_path: Path) -> None:
    file = tmp_path / "agents.toml"
    file.write_text(DRIVERS)
    routing, _ = load_agents(file)
    body = {"type": "text", "text": {"body": "Hola"}, "from_user_id": "US.13491208655302741918"}
    take = replace(world.worker().service.take_event, routing=lambda: routing)
    take(event("message.received", whatsapp(body, **{"from": {"phone_number": ""}})))
    envelope = world.database.value("SELECT envelope FROM inbox")
    assert parse_and_route(envelope, routing).who.address == "US.13491208655302741918"
    with pytest.raises(EnvelopeError):
        parse_and_route({**envelope, "channel": "texts"}, routing)


@pytest.mark.parametrize(
    ("payload", "outcome"),
    [
        (inbound(text=None), "empty"),
        (inbound(type="MMS", cc=["+13125550009"]), "group"),
        (inbound(**{"from": {"phone_number": "72345"}}), "auto_reply"),
        (inbound(**{"from": {"phone_number": "PIZZA"}}), "auto_reply"),
        (inbound(autoresponse_type="STOP", text="Stop"), "opt_out"),
        (inbound(autoresponse_type="HELP", text="Help"), "help"),
    ],
)
def test_what_no_model_answers_has_an_outcome_and_is_no_dead_letter(
    world: World, payload: dict[str, Any], outcome: str
) -> None:
    mike = world.worker()
    mike.service.take_event(event("message.received", payload))
    drained(mike.service.background.drain_inbox)
    (message,) = world.messages()
    assert (message["state"], message["outcome"]) == ("skipped", outcome)


def echo() -> dict[str, Any]:
    return event("message.echo", {"from": {"phone_number": OURS}, "to": PERSON})


@pytest.mark.parametrize("known", [True, False])
def test_an_echo_pauses_the_channel_user_known_or_not(world: World, known: bool) -> None:
    mike = world.worker()
    body = {"type": "text", "text": {"body": "Hola"}}
    hello = event("message.received", whatsapp(body))
    if known:
        mike.service.take_event(hello)
        drained(mike.service.background.drain_inbox)
    for _ in range(2):
        assert mike.service.take_event(echo()) == "noted"
    mike.service.take_event(hello)
    drained(mike.service.background.drain_inbox)
    world.clock.advance(5)
    mike.answer()
    (user,) = world.database.rows("SELECT paused_at, pause_reason FROM channel_users")
    assert user["pause_reason"] == "echo"
    assert world.replies() == []


def test_an_echo_leaves_an_operators_pause_as_it_is(world: World) -> None:
    mike = world.worker()
    mike.service.take_event(echo())
    world.database.run("UPDATE channel_users SET pause_reason = NULL, paused_at = '2026-01-01'")
    mike.service.take_event(echo())
    assert world.database.value("SELECT pause_reason FROM channel_users") is None


@pytest.mark.parametrize("whole", [True, False])
def test_an_event_that_an_older_worker_set_aside_is_replayed(world: World, whole: bool) -> None:
    mike = world.worker()
    call = json.dumps([[], {"event": event("message.received", inbound()), "key": None}, {}])
    body = base64.b64encode(call.encode()).decode()
    entry = {"body": body, "properties": {"body_encoding": "base64"}}
    mike.service.dead_letters.keep(
        reason=DeadLetterReason.UNKNOWN_TASK,
        raw=(json.dumps(entry) if whole else call).encode(),
        detail="no task of that name",
        queue="inbound",
        sender=Sender(),
    )
    (letter,) = mike.operator.dead_letters.unresolved(None)
    mike.operator.replay(letter)
    assert world.database.value("SELECT envelope->>'user' FROM inbox") == PERSON
    assert mike.operator.dead_letters.unresolved(None) == []


def test_a_replayed_message_is_found_under_its_id(world: World) -> None:
    mike = world.worker()
    given = UUID("11111111-2222-5333-8444-000000000001")
    letter = json.dumps(world.envelope("Hello")).encode()
    mike.service.dead_letters.keep(
        reason=DeadLetterReason.UNKNOWN_AGENT,
        raw=letter,
        detail="agent: none",
        queue="inbox",
        sender=Sender(task_id=str(given)),
    )
    (kept,) = mike.operator.dead_letters.unresolved(None)
    mike.operator.replay(kept)
    assert world.database.value("SELECT task_id FROM messages") == given


def test_somebody_who_hides_their_number_is_answered_under_their_id(world: World) -> None:
    mike = world.worker(DRIVERS)
    body = {"type": "text", "text": {"body": "Hola"}, "from_user_id": "US.13491208655302741918"}
    hidden = whatsapp(body, **{"from": {"phone_number": ""}})
    mike.service.take_event(event("message.received", hidden))
    drained(mike.service.background.drain_inbox)
    world.clock.advance(5)
    mike.answer()
    (sent,) = [one for one in world.simulator.sms() if one.direction == "outbound"]
    assert (sent.recipient, sent.whatsapp) == ("US.13491208655302741918", True)
