"""A conversation is handed over to our staff: by the model, the person, or what happened."""

from typing import Any

import psycopg
import pytest

from tests.support.blocking import are_waiting, in_a_thread
from tests.support.world import USER, HandDrivenWorker, World
from worker.domain.people.hand_over import OUTPUT, RESUMED
from worker.observability.metrics import REGISTRY
from worker.sandbox.simulator import Match
from worker.sandbox.simulator.behaviour.model import Script

TEXT = "A colleague will write to you."
AGENTS = f"""
[agents.default]
[agents.default.hand_over]
notify = "desk"
text = "{TEXT}"
words = ["HUMAN"]
after_failed_turns = 2
[channels.sms.delivery]
task = "replies.take"
queue = "replies"
[routes.desk.delivery]
task = "desk.told"
queue = "desk"
"""


@pytest.fixture
def worker(world: World) -> HandDrivenWorker:
    return world.worker(AGENTS)


def say(world: World, worker: HandDrivenWorker, text: str) -> None:
    worker.receive(world.envelope(text))
    worker.answer()


def told(world: World, worker: HandDrivenWorker) -> tuple[list[str], list[dict[str, Any]]]:
    """Deliver all; what the person got, and what our staff was told, since the last time."""
    for row in world.database.rows("SELECT id FROM channel_users ORDER BY id"):
        worker.service.deliver(row["id"])
    tasks, worker.broker.tasks[:] = list(worker.broker.tasks), []
    person = [one["reply"]["text"] for task, _, _, one in tasks if task == "replies.take"]
    return person, [one["hand_over"] for task, _, _, one in tasks if task == "desk.told"]


def user(world: World) -> dict[str, Any]:
    query = "SELECT id, paused_at, pause_reason, note FROM channel_users WHERE address = %s"
    (row,) = world.database.rows(query, USER)
    return row


def reasons(world: World) -> list[str]:
    rows = world.database.rows("SELECT reason FROM hand_overs ORDER BY id")
    return [row["reason"] for row in rows]


def test_the_model_hands_over_and_the_turn_ends_at_once(
    world: World, worker: HandDrivenWorker
) -> None:
    say(world, worker, 'tool:hand_over {"reason": "they are angry"}')
    person, (notice,) = told(world, worker)
    assert person == [TEXT]
    (row,) = world.database.rows("SELECT * FROM hand_overs")
    assert (row["reason"], row["ended_at"]) == ("model", None)
    assert notice == {
        "version": 1,
        "idempotency_key": notice["idempotency_key"],
        "handed_over": {"reason": "model"},
        "hand_over": row["id"],
        "user_id": user(world)["id"],
        "channel": "sms",
        "recipient": "",
        "user": USER,
        "thread": "",
        "look": f"worker messages {user(world)['id']} --texts",
    }
    assert user(world)["pause_reason"] == "hand_over"
    (message,) = world.messages()
    assert (message["state"], message["outcome"]) == ("human", "human")
    assert world.database.value("SELECT count(*) FROM calls") == 1, "no round for the output"
    assert told(world, worker) == ([], []), "told once"


def test_the_notice_links_to_the_console(world: World) -> None:
    world.console_url = "https://console.example.com"
    worker = world.worker(AGENTS)
    say(world, worker, "HUMAN")
    _, (notice,) = told(world, worker)
    assert notice["link"] == f"https://console.example.com/people/{user(world)['id']}"


def test_after_resume_the_model_gets_the_output_and_is_told_not_to_do_it_again(
    world: World, worker: HandDrivenWorker
) -> None:
    say(world, worker, 'tool:hand_over {"reason": "?"}')
    say(world, worker, "for your staff")
    worker.operator.set_paused(user(world)["id"], paused=False)
    assert world.database.value("SELECT ended_at IS NOT NULL FROM hand_overs")
    say(world, worker, "thanks, and one more thing")
    assert world.inputs()[1:] == ["for your staff", f"{RESUMED}\nthanks, and one more thing"]
    outputs = world.database.rows("SELECT output, answered_at FROM tool_calls")
    assert [one["output"] for one in outputs] == [OUTPUT]
    assert outputs[0]["answered_at"] is not None
    assert world.messages()[-1]["outcome"] == "answered"
    say(world, worker, "and another")
    assert world.inputs()[-1] == "and another"


def test_resume_also_ends_the_hand_over_that_is_being_written(
    world: World, worker: HandDrivenWorker
) -> None:
    say(world, worker, "hello")
    who = user(world)["id"]
    with psycopg.connect(world.database.url) as settling:
        settling.execute(
            "UPDATE channel_users SET paused_at = service_now(), pause_reason = 'hand_over'"
        )
        settling.execute(
            "INSERT INTO hand_overs (channel_user_id, agent, reason, created_at)"
            " SELECT id, 'default', 'model', service_now() FROM channel_users"
        )
        resumed = in_a_thread(lambda: worker.operator.set_paused(who, paused=False))
        assert are_waiting(world, 1)
    resumed.result(10)
    assert user(world)["paused_at"] is None
    assert world.database.value("SELECT ended_at IS NOT NULL FROM hand_overs")
    assert user(world)["note"] == RESUMED


def test_a_closed_gate_does_not_hold_back_the_notice(
    world: World, worker: HandDrivenWorker
) -> None:
    world.database.run(
        "INSERT INTO gates (name, closed_until, reason)"
        " VALUES ('account', service_now() + interval '1 minute', 'status 429')"
    )

    def counted() -> float:
        labels = {"agent": "default", "reason": "person"}
        return REGISTRY.get_sample_value("worker_hand_overs_total", labels) or 0.0

    before = counted()
    worker.receive(world.envelope("HUMAN"))
    assert worker.broker.deliveries == [user(world)["id"]], "not only when a sweeper looks"
    assert told(world, worker)[0] == [TEXT]
    world.clock.advance(60)
    worker.answer()
    assert world.messages()[0]["outcome"] == "human"
    assert reasons(world) == ["person"]
    assert counted() == before + 1


def test_other_tools_of_that_answer_do_not_run(world: World, worker: HandDrivenWorker) -> None:
    world.simulator.script(
        Script(text="help", calls=(("order_status", '{"order": 1}'), ("hand_over", "{}")))
    )
    say(world, worker, "help")
    outputs = world.database.rows("SELECT name, output FROM tool_calls ORDER BY id")
    assert [one["output"] for one in outputs] == [OUTPUT, OUTPUT]
    assert reasons(world) == ["model"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("human", "person"),
        ("I'm going to kill you all", "threat"),
        ("I'm 12 years old", "minor"),
    ],
)
def test_a_message_hands_over_before_a_model_sees_it(
    world: World, worker: HandDrivenWorker, text: str, reason: str
) -> None:
    say(world, worker, "hello")
    told(world, worker)
    say(world, worker, text)
    assert reasons(world) == [reason]
    person, (notice,) = told(world, worker)
    assert person == [TEXT]
    assert notice["handed_over"] == {"reason": reason}
    assert world.messages()[-1]["outcome"] == "human"
    assert world.inputs() == ["hello", text], "the thread is whole"
    assert world.database.value("SELECT count(*) FROM calls") == 1


def test_a_first_message_may_ask_for_a_person_too(world: World, worker: HandDrivenWorker) -> None:
    say(world, worker, "HUMAN")
    assert reasons(world) == ["person"]
    assert told(world, worker)[0] == [TEXT]


def test_who_was_handed_over_is_not_handed_over_again(
    world: World, worker: HandDrivenWorker
) -> None:
    say(world, worker, "HUMAN")
    say(world, worker, "HUMAN")
    assert reasons(world) == ["person"]
    worker.operator.set_paused(user(world)["id"], paused=False)
    say(world, worker, "HUMAN")
    assert reasons(world) == ["person", "person"]
    assert len(told(world, worker)[1]) == 2


def test_a_refusal_to_answer_goes_to_our_staff(world: World, worker: HandDrivenWorker) -> None:
    world.simulator.inject("refusal")
    say(world, worker, "something odd")
    assert reasons(world) == ["refusal"]
    assert world.database.value("SELECT count(*) FROM dead_letters") == 0


def test_so_do_failed_turns_in_a_row(world: World, worker: HandDrivenWorker) -> None:
    for plan in ("no_message", "normal", "no_message", "no_message"):
        assert reasons(world) == []
        if plan != "normal":
            world.simulator.inject(plan)
        say(world, worker, f"question {plan}")
    assert reasons(world) == ["failed_turns"]
    assert user(world)["paused_at"] is not None


def test_failures_that_our_staff_has_dealt_with_do_not_count_again(
    world: World, worker: HandDrivenWorker
) -> None:
    for _ in range(2):
        world.simulator.inject("no_message")
        say(world, worker, "a question")
    worker.operator.set_paused(user(world)["id"], paused=False)
    for handed_over in (1, 2):
        world.clock.advance(1)
        world.simulator.inject("no_message")
        say(world, worker, "another")
        assert reasons(world) == ["failed_turns"] * handed_over


def test_a_hand_over_that_was_found_in_the_thread_owes_only_its_own_output(world: World) -> None:
    tools = AGENTS.replace("[agents.default]", '[agents.default]\ntools = ["order_status"]', 1)
    worker = world.worker(
        f"""{tools}
[tools.order_status]
function = "tests.support.toolbox:order_status"
honours_key = true
"""
    )
    world.simulator.script(Script(text="shipped", calls=(("hand_over", "no json"),)))
    world.simulator.inject("stored_then_dropped", match=Match(text="shipped"))
    ledger = {"ledger": str(world.folder / "ledger.jsonl")}
    worker.receive(world.envelope('tool:order_status {"order": 42}', metadata=ledger))
    world.clock.advance(5)
    worker.answer()
    assert reasons(world) == ["model"]
    query = "SELECT name, answered_at IS NOT NULL AS answered FROM tool_calls ORDER BY id"
    assert [(one["name"], one["answered"]) for one in world.database.rows(query)] == [
        ("order_status", True),
        ("hand_over", False),
    ]


def test_an_agent_without_the_section_hands_nothing_over(world: World) -> None:
    plain = world.worker("[agents.default]\n")
    say(world, plain, "HUMAN")
    say(world, plain, "I'm going to kill you all")
    assert reasons(world) == []
    assert world.database.value("SELECT count(*) FROM calls") == 2


def test_who_is_erased_is_not_told_of(world: World, worker: HandDrivenWorker) -> None:
    say(world, worker, "HUMAN")
    erasures = worker.operator.erase
    erasures.store.stop(user(world)["id"])
    assert told(world, worker) == ([TEXT], []), "the text had left"
    lease = erasures.interventions.take(user(world)["id"]).lease
    erasures.store.remove(lease, "telephone")
    assert reasons(world) == []
