"""Whose a refusal is: one message's, one thread's, the agent's or the account's."""

import pytest

from tests.faults.turns.test_telnyx_more import (
    calls,
    dead_letters,
    gates,
    heal,
    hold,
    pass_time,
)
from tests.support.world import USER, HandDrivenWorker, World
from worker.sandbox.simulator import Endpoint, Match

# Honest people write more than the loop breaker allows, to show that nobody delays them.
AGENT = "[channels.sms]\nloop_breaker = false\n[agents.default]\n"
FALLBACK = AGENT + 'fallback_text = "We will call you back."\n'
SOMEBODY = "+13125559999"
HONEST_S = 5.0


def number(place: int) -> str:
    return f"+1312555{place:04}"


def poison_threads(world: World, *, status: int = 400) -> None:
    """Refuse whatever comes on the conversations that there are now, as for their history."""
    for conversation in world.simulator.conversations():
        match = Match(conversation_id=conversation.id)
        world.simulator.inject(str(status), match=match, count=None)


def three_people_with_refused_threads(world: World) -> HandDrivenWorker:
    """Three people write on conversations that have had turns and are refused from now on."""
    mike = world.worker(AGENT)
    for place in range(3):
        mike.receive(world.envelope("hello", user=number(place)))
    poison_threads(world)
    for place in range(3):
        mike.receive(world.envelope("and now?", user=number(place)))
    return mike


def live_on(world: World, worker: HandDrivenWorker, *, rounds: int) -> None:
    """Let time pass in which others write: each of them is answered at once."""
    for turn in range(rounds):
        pass_time(world, worker, HONEST_S)
        worker.receive(world.envelope(f"honest {turn}", user=SOMEBODY))
        outcome = world.database.value("SELECT outcome FROM messages ORDER BY id DESC LIMIT 1")
        assert outcome == "answered", f"an honest message of round {turn} waits"
        worker.answer(rounds=50)


def outcomes(world: World, user: str) -> list[str | None]:
    rows = world.database.rows(
        "SELECT outcome FROM messages m JOIN channel_users u ON u.id = m.channel_user_id"
        " WHERE address = %s ORDER BY m.id",
        user,
    )
    return [row["outcome"] for row in rows]


def close_reasons(world: World) -> list[str]:
    rows = world.database.rows(
        "SELECT close_reason FROM conversations WHERE closed_at IS NOT NULL ORDER BY id"
    )
    return [row["close_reason"] for row in rows]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_thread_that_telnyx_refuses_is_replaced_once_and_costs_no_message(
    world: World, status: int
) -> None:
    mike = world.worker(AGENT)
    mike.receive(world.envelope("hello"))
    poison_threads(world, status=status)
    mike.receive(world.envelope("are you there?"))
    heal(world, mike)
    mike.receive(world.envelope("good"))

    assert [reply["source"] for reply in world.replies()] == ["call"] * 3
    assert len(world.simulator.conversations()) == 2
    assert dead_letters(world) == 0
    assert gates(world) == []
    hold(world)


def test_a_thread_that_breaks_telnyxs_server_while_others_are_answered_is_replaced(
    world: World,
) -> None:
    mike = world.worker(AGENT)
    mike.receive(world.envelope("hello"))
    poison_threads(world, status=500)
    mike.receive(world.envelope("are you there?"))
    live_on(world, mike, rounds=18)

    assert outcomes(world, USER) == ["answered", "answered"]
    assert close_reasons(world) == ["refused"]
    hold(world)


@pytest.mark.parametrize("fault", ["408", "502_html", "dropped"])
def test_a_thread_that_never_answers_while_others_are_answered_costs_one_message(
    world: World, fault: str
) -> None:
    mike = world.worker(AGENT)
    mike.receive(world.envelope("hello"))
    (conversation,) = world.simulator.conversations()
    match = Match(conversation_id=conversation.id, endpoint=Endpoint.RESPONSES)
    world.simulator.inject(fault, match=match, count=None)
    mike.receive(world.envelope("are you there?"))
    for turn in range(70):
        pass_time(world, mike, 10)
        mike.receive(world.envelope(f"honest {turn}", user=SOMEBODY))
        mike.answer(rounds=50)
    mike.receive(world.envelope("good"))

    assert outcomes(world, USER) == ["answered", "gave_up", "answered"]
    assert close_reasons(world) == ["failing"]
    hold(world)


def test_a_turn_that_is_given_up_in_an_outage_keeps_its_conversation(world: World) -> None:
    mike = world.worker(AGENT)
    mike.receive(world.envelope("hello"))
    mike.receive(world.envelope("hello", user=SOMEBODY))
    world.simulator.inject("408", match=Match(endpoint=Endpoint.RESPONSES), count=None)
    for user in (USER, SOMEBODY):
        mike.receive(world.envelope("are you there?", user=user))
    for _ in range(70):
        pass_time(world, mike, 10)
        mike.answer(rounds=50)

    assert outcomes(world, USER) == ["answered", "gave_up"]
    assert close_reasons(world) == []


def test_outputs_that_a_thread_refuses_are_sent_again_on_a_new_one(world: World) -> None:
    config = AGENT + (
        'tools = ["status"]\n[tools.status]\nfunction = "tests.support.toolbox:order_status"\n'
    )
    mike = world.worker(config)
    mike.receive(world.envelope("hello"))
    (conversation,) = world.simulator.conversations()
    match = Match(conversation_id=conversation.id, text="function_call_output")
    world.simulator.inject("400", match=match, count=None)
    mike.receive(world.envelope('tool:status {"order": 7}'))
    heal(world, mike)

    assert [row["outcome"] for row in world.messages()] == ["answered", "answered"]
    assert close_reasons(world) == ["refused"]
    hold(world)


def test_three_people_with_a_refused_thread_delay_nobody_of_their_agent(world: World) -> None:
    mike = three_people_with_refused_threads(world)
    live_on(world, mike, rounds=14)

    for place in range(3):
        assert outcomes(world, number(place)) == ["answered", "answered"]
    assert dead_letters(world) == 0
    hold(world)


def test_three_people_with_a_refused_thread_and_nobody_else_close_no_gate(world: World) -> None:
    mike = three_people_with_refused_threads(world)
    for _ in range(14):
        pass_time(world, mike, HONEST_S)
        mike.answer(rounds=50)
        assert gates(world) == []

    assert {row["outcome"] for row in world.messages()} == {"answered"}
    hold(world)


def test_a_message_refused_on_a_new_thread_too_is_a_dead_letter_and_the_person_is_told(
    world: World,
) -> None:
    mike = world.worker(FALLBACK)
    mike.receive(world.envelope("hello"))
    world.simulator.inject("422", match=Match(text="poison"), count=None)
    mike.receive(world.envelope("poison"))
    heal(world, mike)
    mike.receive(world.envelope("sorry"))

    assert [row["outcome"] for row in world.messages()] == ["answered", "refused", "answered"]
    assert [reply["source"] for reply in world.replies()] == ["call", "fallback", "call"]
    reasons = world.database.rows("SELECT reason FROM dead_letters")
    assert [row["reason"] for row in reasons] == ["refused"]
    assert close_reasons(world) == ["refused"], "replaced once"
    hold(world)


def test_an_agent_that_is_refused_for_everybody_costs_few_of_them_their_history(
    world: World,
) -> None:
    mike = world.worker(AGENT)
    users = [number(place) for place in range(12)]
    for user in users:
        mike.receive(world.envelope("hello", user=user))
    pass_time(world, mike, 90)
    world.simulator.inject("400", count=None)
    for user in users:
        mike.receive(world.envelope("and now?", user=user))
    for _ in range(30):
        pass_time(world, mike, 5)
        mike.answer(rounds=50)
    assert gates(world) == ["agent:default"]
    assert dead_letters(world) == 0
    assert len(close_reasons(world)) <= 4
    world.simulator.clear_faults()
    heal(world, mike)

    assert {row["outcome"] for row in world.messages()} == {"answered"}
    hold(world)


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (401, {}),
        (402, {}),
        (403, {}),
        (403, {"body": "html"}),
        (404, {}),
        (404, {"body": "html"}),
        (429, {}),
        (429, {"body": "html"}),
    ],
)
def test_a_refusal_of_one_message_while_others_are_answered_is_its_own(
    world: World, status: int, changes: dict[str, str]
) -> None:
    mike = world.worker(FALLBACK)
    mike.receive(world.envelope("hello"))
    mike.receive(world.envelope("hello", user=SOMEBODY))
    world.simulator.inject(str(status), match=Match(text="poison"), count=None, **changes)
    mike.receive(world.envelope("poison"))
    live_on(world, mike, rounds=24)
    mike.receive(world.envelope("sorry"))

    assert outcomes(world, USER) == ["answered", "refused", "answered"]
    reasons = world.database.rows("SELECT reason FROM dead_letters")
    assert [row["reason"] for row in reasons] == ["refused"]
    assert [one["source"] for one in world.replies()].count("fallback") == 1
    assert gates(world) == []
    assert calls(world).count("refused") <= 4
    hold(world)


@pytest.mark.parametrize("status", [402, 403])
def test_a_burst_with_one_such_message_loses_only_that_one(world: World, status: int) -> None:
    mike = world.worker(AGENT)
    mike.receive(world.envelope("hello", user=SOMEBODY))
    world.simulator.inject(str(status), match=Match(text="poison"), count=None, body="html")
    for text in ("one", "poison", "two"):
        mike.accept_only(world.envelope(text, user=number(1)))
    mike.answer()
    live_on(world, mike, rounds=24)

    assert outcomes(world, number(1)) == ["answered", "refused", "answered"]
    hold(world)


@pytest.mark.parametrize("changes", [{}, {"body": "html"}])
def test_a_refusal_of_everybody_with_no_success_makes_no_dead_letter(
    world: World, changes: dict[str, str]
) -> None:
    mike = world.worker(AGENT)
    for place in range(3):
        mike.receive(world.envelope("hello", user=number(place)))
    world.simulator.inject("403", count=None, **changes)
    for place in range(3):
        mike.receive(world.envelope("and now?", user=number(place)))
    for _ in range(30):
        pass_time(world, mike, 10)
        mike.answer(rounds=50)
    assert dead_letters(world) == 0
    assert len(gates(world)) == 1
    world.simulator.clear_faults()
    heal(world, mike)

    assert {row["outcome"] for row in world.messages()} == {"answered"}
    assert close_reasons(world) == []
    hold(world)
