"""What Telnyx may do beyond one call: gates, poison, threads that change behind our back."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import oracle
from tests.support.processes import eventually
from tests.support.tcp_proxy import Mode, TcpProxy, telnyx_of, worker_through
from tests.support.world import USER, HandDrivenWorker, World
from worker.config.agents_file import DEFAULT_MODEL
from worker.sandbox.simulator import Endpoint, Match
from worker.sandbox.simulator.behaviour.plans import Storing
from worker.sandbox.simulator.record.events import RequestReceived

FAST_CALLS = "[agents.default]\ncall_timeout_s = 0.5\n"
QUIET_S = 2 + 0.5 + 90 + 13
OTHER = "+13125550002"
CROWD = 1000


def heal(world: World, worker: HandDrivenWorker, *, seconds: float = 1000) -> None:
    """Let time pass and a worker sweep until everything has ended."""
    for _ in range(int(seconds / 5)):
        worker.answer(rounds=200)
        if not world.database.rows("SELECT FROM messages WHERE outcome IS NULL"):
            return
        pass_time(world, worker, 5)
    raise AssertionError(f"not final after {seconds} s: {world.messages()}")


def pass_time(world: World, worker: HandDrivenWorker, seconds: float) -> None:
    world.clock.advance(seconds)
    worker.service.background.workers.beat()


def hold(world: World, *, final: bool = True) -> None:
    """Hold every invariant of the turn protocol against tables and Telnyx's log."""
    seen = oracle.Expectations(final=final, slack_s=0.2)
    assert oracle.check(world.database, world.simulator.log(), seen) == []


def calls(world: World) -> list[str]:
    return [row["state"] for row in world.database.rows("SELECT state FROM calls ORDER BY id")]


def gates(world: World) -> list[str]:
    """The names of the gates that are closed now."""
    closed = world.database.rows(
        "SELECT name FROM gates WHERE closed_until > service_now() ORDER BY name"
    )
    return [row["name"] for row in closed]


def dead_letters(world: World) -> int:
    return int(world.database.value("SELECT count(*) FROM dead_letters"))


def posts(world: World) -> int:
    """How many calls Telnyx has seen."""
    return sum(
        isinstance(entry.event, RequestReceived) and entry.event.endpoint == Endpoint.RESPONSES
        for entry in world.simulator.log()
    )


def test_a_refused_connection_is_tried_again_without_waiting_for_t_quiet(world: World) -> None:
    with TcpProxy(telnyx_of(world)) as proxy:
        mike = worker_through(world, FAST_CALLS, telnyx=proxy)
        mike.receive(world.envelope("hello"))
        proxy.mode = Mode.REFUSE
        proxy.reset_all()
        mike.receive(world.envelope("anybody there?"))
        assert set(calls(world)[1:]) == {"not_sent"}
        proxy.mode = Mode.PASS
        pass_time(world, mike, 5)
        mike.answer()

        assert world.inputs() == ["hello", "anybody there?"]
        assert {row["outcome"] for row in world.messages()} == {"answered"}
        hold(world)


def test_an_answer_that_vanishes_on_the_way_is_adopted(world: World) -> None:
    with TcpProxy(telnyx_of(world)) as proxy:
        mike = worker_through(world, FAST_CALLS, telnyx=proxy)
        mike.receive(world.envelope("hello"))
        proxy.mode = Mode.DROP_ANSWERS
        mike.receive(world.envelope("do you hear me?"))
        assert calls(world) == ["done", "unknown"]
        proxy.mode = Mode.PASS
        heal(world, mike)

        assert world.inputs() == ["hello", "do you hear me?"]
        assert [reply["source"] for reply in world.replies()] == ["call", "adopted"]
        hold(world)


def test_a_request_that_vanishes_on_the_way_is_sent_again_after_t_quiet(world: World) -> None:
    with TcpProxy(telnyx_of(world)) as proxy:
        mike = worker_through(world, FAST_CALLS, telnyx=proxy)
        mike.receive(world.envelope("hello"))
        proxy.mode = Mode.DROP_REQUESTS
        mike.receive(world.envelope("do you hear me?"))
        proxy.mode = Mode.PASS
        pass_time(world, mike, QUIET_S - 5)
        mike.answer()
        assert world.inputs() == ["hello"]
        heal(world, mike)

        assert world.inputs() == ["hello", "do you hear me?"]
        assert calls(world) == ["done", "unknown", "done"]
        hold(world)


def test_a_call_that_is_executed_after_we_hung_up_is_adopted(world: World) -> None:
    world.simulator.inject("late_execution", after_s=0.2)
    mike = world.worker(FAST_CALLS)
    mike.receive(world.envelope("hello"))
    mike.answer()
    assert calls(world) == ["unknown"]
    assert eventually(lambda: world.inputs() == ["hello"])
    heal(world, mike)

    assert calls(world) == ["unknown"]
    assert [reply["source"] for reply in world.replies()] == ["adopted"]
    hold(world)


@pytest.mark.parametrize("fault", ["stored_then_502_html", "stored_then_504_html"])
def test_a_page_of_a_proxy_says_nothing_and_the_turn_behind_it_is_adopted(
    world: World, fault: str
) -> None:
    world.simulator.inject(fault)
    mike = world.worker(FAST_CALLS)
    mike.receive(world.envelope("hello"))
    assert calls(world) == ["unknown"]
    heal(world, mike)

    assert world.inputs() == ["hello"]
    assert [reply["source"] for reply in world.replies()] == ["adopted"]
    hold(world)


def test_a_success_that_is_a_web_page_is_no_answer(world: World) -> None:
    world.simulator.inject("stored_then_502_html", status=200)
    mike = world.worker(FAST_CALLS)
    mike.receive(world.envelope("hello"))
    assert calls(world) == ["unknown"]
    heal(world, mike)

    assert [reply["source"] for reply in world.replies()] == ["adopted"]
    assert "<" not in world.replies()[0]["text"]
    hold(world)


def test_a_deleted_conversation_is_replaced_once_and_the_loss_is_written_down(
    world: World,
) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    (gone,) = world.simulator.conversations()
    world.simulator.delete_conversation(gone.id)
    mike.receive(world.envelope("are you there?"))
    heal(world, mike)

    assert world.inputs() == ["are you there?"]
    assert [reply["source"] for reply in world.replies()] == ["call", "call"]
    closed = world.database.rows("SELECT * FROM conversations WHERE closed_at IS NOT NULL")
    assert [str(row["telnyx_conversation_id"]) for row in closed] == [gone.id]
    noted = world.database.value("SELECT facts->>'reason' FROM attempt_log")
    assert noted == closed[0]["close_reason"] == "gone"
    hold(world)


def test_a_conversation_that_vanishes_under_a_call_costs_no_reply(world: World) -> None:
    world.simulator.inject("conversation_deleted", match=Match(text="second"))
    mike = world.worker(FAST_CALLS)
    for text in ("first", "second", "third"):
        mike.receive(world.envelope(text))
        heal(world, mike)

    assert [reply["source"] for reply in world.replies()] == ["call", "call", "call"]
    assert world.inputs()[-1] == "third"
    hold(world)


def test_a_strangers_message_stops_its_user_and_nobody_else(world: World) -> None:
    mike = world.worker(FAST_CALLS)
    mike.receive(world.envelope("hello"))
    (conversation,) = world.simulator.conversations()
    world.simulator.append_foreign_message(conversation.id, "I am not one of yours")
    world.simulator.inject("dropped", match=Match(text="mine"))
    mike.receive(world.envelope("mine"))
    mike.receive(world.envelope("hello", user=OTHER))
    for _ in range(int(QUIET_S / 5) + 3):
        pass_time(world, mike, 5)
        mike.answer()

    stopped = world.database.rows("SELECT address FROM channel_users WHERE diverged_at IS NOT NULL")
    assert [row["address"] for row in stopped] == [USER]
    assert world.inputs() == ["hello", "I am not one of yours", "hello"]
    mike.receive(world.envelope("again", user=OTHER))
    mike.receive(world.envelope("still stopped"))
    mike.answer()
    assert "again" in world.inputs()
    assert "still stopped" not in world.inputs()
    hold(world)


@pytest.mark.parametrize("fault", ["429_retry_after", "422"])
def test_a_refusal_that_stored_the_turn_is_not_repeated_while_the_log_lags(
    world: World, fault: str
) -> None:
    mike = world.worker(FAST_CALLS)
    world.simulator.inject(fault, storing=Storing.WHOLE)
    world.simulator.inject("stale_reads", stale_s=3600)
    mike.receive(world.envelope("hello"))
    for _ in range(6):
        pass_time(world, mike, 3)
        mike.answer()

    assert world.simulator.pending_faults() == (), "the listing was read"
    assert [reply["source"] for reply in world.replies()] == ["adopted"]
    hold(world)


def test_a_stale_listing_is_looked_at_again_before_anything_is_sent(world: World) -> None:
    mike = world.worker(FAST_CALLS)
    mike.receive(world.envelope("hello"))
    world.simulator.inject("stored_then_dropped")
    world.simulator.inject("stale_reads", count=4, stale_s=3600)
    mike.receive(world.envelope("and you?"))
    heal(world, mike)

    assert world.simulator.pending_faults() == (), "the listings were read"
    assert world.inputs() == ["hello", "and you?"]
    assert [reply["source"] for reply in world.replies()] == ["call", "adopted"]
    hold(world)


@pytest.mark.parametrize("fault", ["split_items", "merged_items"])
@pytest.mark.parametrize("wire", ["drop", "itself"])
def test_an_item_that_telnyx_rearranged_is_never_sent_again(
    world: World, fault: str, wire: str
) -> None:
    mike = world.worker(FAST_CALLS + 'fallback_text = "We will call you back."\n')
    mike.receive(world.envelope("hello"))
    world.simulator.inject(fault, wire=wire)
    mike.receive(world.envelope("one two"))
    for _ in range(80):
        pass_time(world, mike, 15)
        mike.answer()

    assert posts(world) == 2
    diverged = world.database.value("SELECT diverged_at IS NOT NULL FROM channel_users")
    expected = {
        ("split_items", "drop"): ["call"],  # and stopped
        ("split_items", "itself"): ["call", "call"],
        ("merged_items", "drop"): ["call", "adopted"],
        ("merged_items", "itself"): ["call", "call"],
    }
    assert [reply["source"] for reply in world.replies()] == expected[fault, wire]
    assert diverged == ((fault, wire) == ("split_items", "drop"))
    hold(world)


def test_an_item_that_was_merged_into_an_unanswered_one_is_never_sent_again(world: World) -> None:
    mike = world.worker(FAST_CALLS + 'fallback_text = "We will call you back."\n')
    world.simulator.inject("input_then_dropped")
    mike.receive(world.envelope("hello"))
    heal(world, mike)
    world.simulator.inject("merged_items", wire="drop")
    mike.receive(world.envelope("one two"))
    for _ in range(80):
        pass_time(world, mike, 15)
        mike.answer()

    assert posts(world) == 2
    assert world.database.value("SELECT diverged_at IS NOT NULL FROM channel_users")


def test_a_creation_whose_answer_was_lost_is_found_and_not_repeated(world: World) -> None:
    world.simulator.inject("creation_lost")
    mike = world.worker(FAST_CALLS)
    mike.receive(world.envelope("hello"))
    heal(world, mike)

    assert world.simulator.pending_faults() == ()
    assert world.inputs() == ["hello"]
    assert len(world.simulator.conversations()) == 1
    hold(world)


def test_a_creation_that_is_not_listed_yet_is_not_repeated_either(world: World) -> None:
    world.simulator.inject("creation_lost")
    world.simulator.inject("late_listing", count=None)
    mike = world.worker(FAST_CALLS)
    mike.receive(world.envelope("hello"))
    heal(world, mike)

    assert world.inputs() == ["hello"]
    assert len(world.simulator.conversations()) == 1, "the same key gives the same conversation"
    hold(world)


@pytest.mark.slow
def test_a_poisonous_message_among_a_thousand_hurts_only_the_one_who_wrote_it(
    world: World,
) -> None:
    world.simulator.inject("400", match=Match(text="poison"), count=None)
    mike = world.worker()
    users = [f"+1312{number:07}" for number in range(CROWD)]
    with ThreadPoolExecutor(8) as pool:
        words = {user: "poison" if user == users[500] else f"hello from {user}" for user in users}
        list(pool.map(lambda user: mike.receive(world.envelope(words[user], user=user)), users))
    heal(world, mike)

    dead = world.database.rows(
        "SELECT u.address FROM dead_letters d JOIN messages m ON m.id = d.message_row_id"
        " JOIN channel_users u ON u.id = m.channel_user_id"
    )
    assert [row["address"] for row in dead] == [users[500]]
    assert world.database.value("SELECT count(*) FROM replies") == CROWD - 1
    mike.receive(world.envelope("sorry for that", user=users[500]))
    assert "sorry for that" in world.inputs()
    hold(world)


def test_a_poisonous_message_in_a_burst_leaves_the_others_answered_in_order(world: World) -> None:
    world.simulator.inject("400", match=Match(text="poison"), count=None)
    mike = world.worker()
    for text in ("one", "two", "poison", "three", "four"):
        mike.accept_only(world.envelope(text))
    heal(world, mike)

    assert world.inputs() == ["one", "two", "three", "four"]
    outcomes = [row["outcome"] for row in world.messages()]
    assert outcomes == ["answered", "answered", "refused", "answered", "answered"]
    assert dead_letters(world) == 1
    hold(world)


@pytest.mark.parametrize("status", [404, 400, 422])
def test_a_withdrawn_model_closes_the_agents_gate_and_kills_no_message(
    world: World, status: int
) -> None:
    world.simulator.reconfigure(unavailable_model_status=status)
    world.simulator.set_model_available(DEFAULT_MODEL, available=False)
    mike = world.worker()
    users = [f"+1312555{number:04}" for number in range(6)]
    for user in users:
        mike.receive(world.envelope("hello", user=user))
    for _ in range(30):
        pass_time(world, mike, 10)
        mike.answer()
    assert dead_letters(world) == 0
    assert gates(world) == ["agent:default"]
    before = posts(world)
    world.simulator.set_model_available(DEFAULT_MODEL, available=True)
    heal(world, mike)

    assert world.inputs() == ["hello"] * len(users)
    assert dead_letters(world) == 0
    assert posts(world) - before <= 2 * len(users)
    hold(world)


def test_a_model_that_was_away_for_a_moment_costs_nobody_a_message(world: World) -> None:
    mike = world.worker()
    world.simulator.set_model_available(DEFAULT_MODEL, available=False)
    mike.receive(world.envelope("hello"))
    world.simulator.set_model_available(DEFAULT_MODEL, available=True)  # before anybody looks
    heal(world, mike)

    assert world.inputs() == ["hello"]
    assert dead_letters(world) == 0
    hold(world)


def test_a_404_on_a_living_conversation_closes_the_agents_gate(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    world.simulator.inject("404", count=3)
    mike.receive(world.envelope("and now?"))
    pass_time(world, mike, 16)
    mike.answer()
    assert gates(world) == ["agent:default"]
    heal(world, mike)

    assert world.inputs() == ["hello", "and now?"]
    assert len(world.simulator.conversations()) == 1
    assert dead_letters(world) == 0
    hold(world)


def test_the_third_user_in_a_row_who_is_refused_closes_the_agents_gate(world: World) -> None:
    world.simulator.inject("400", count=None)
    mike = world.worker()
    users = [f"+1312555{number:04}" for number in range(8)]
    for user in users:
        mike.receive(world.envelope("hello", user=user))
    for _ in range(2):  # each is refused twice before it is judged
        pass_time(world, mike, 16)
        mike.answer()
    assert gates(world) == ["agent:default"]
    assert {row["outcome"] for row in world.messages()} == {None}
    world.simulator.clear_faults()
    heal(world, mike)

    assert world.inputs() == ["hello"] * len(users)
    assert dead_letters(world) == 0
    hold(world)


def test_who_is_refused_twice_among_others_while_the_model_is_away_is_not_to_blame(
    world: World,
) -> None:
    mike = world.worker()
    unlucky, *others = [f"+1312555{number:04}" for number in range(4)]
    world.simulator.set_model_available(DEFAULT_MODEL, available=False)
    mike.receive(world.envelope("hello", user=unlucky))
    world.simulator.set_model_available(DEFAULT_MODEL, available=True)  # before anybody looks
    mike.receive(world.envelope("hello", user=OTHER))
    world.simulator.set_model_available(DEFAULT_MODEL, available=False)
    for user in others:
        mike.receive(world.envelope("hello", user=user))
    pass_time(world, mike, 16)
    mike.sweep()  # the first one is asked again
    world.simulator.set_model_available(DEFAULT_MODEL, available=True)
    heal(world, mike)

    assert dead_letters(world) == 0
    assert {row["outcome"] for row in world.messages()} == {"answered"}
    hold(world)


@pytest.mark.parametrize("known", [True, False], ids=["known users", "new users"])
def test_with_a_wrong_key_everything_waits_and_with_the_right_one_all_is_answered(
    world: World, known: bool
) -> None:
    mike = world.worker()
    users = [f"+1312555{number:04}" for number in range(10)]
    for user in users if known else ():
        mike.receive(world.envelope("before", user=user))
    right = world.simulator.api_key
    seen = posts(world)
    world.simulator.set_api_key("KEY-of-somebody-else")
    for minute in range(5):
        for user in users:
            mike.receive(world.envelope(f"minute {minute}", user=user))
        for _ in range(12):
            pass_time(world, mike, 5)
            mike.answer()
    assert posts(world) - seen <= 12, "a closed gate lets next to nothing through"
    assert gates(world) == ["account"]
    assert dead_letters(world) == 0
    world.simulator.set_api_key(right)
    heal(world, mike)

    assert dead_letters(world) == 0
    assert {row["outcome"] for row in world.messages()} == {"answered"}
    said = "\n".join(world.inputs()).split("\n")
    assert sorted(said) == sorted(
        ["before"] * (len(users) * known)
        + [f"minute {minute}" for minute in range(5) for _ in users]
    )
    hold(world)


def test_after_a_429_the_whole_crowd_waits_as_long_as_telnyx_asked(world: World) -> None:
    mike, anna = world.worker(), world.worker()
    world.simulator.inject("429_retry_after", retry_after_s=30)
    mike.receive(world.envelope("hello"))
    seen = posts(world)
    for number in range(10):
        anna.receive(world.envelope("me too", user=f"+1312555{number:04}"))
    for _ in range(5):
        pass_time(world, anna, 5)
        anna.answer()
    assert posts(world) == seen
    assert gates(world) == [f"model:{DEFAULT_MODEL}"]
    pass_time(world, anna, 6)
    heal(world, anna)

    assert sorted(world.inputs()) == ["hello", *["me too"] * 10]
    hold(world)
