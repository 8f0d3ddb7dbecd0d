"""Retention takes texts out, and nothing that a worker may still have to know."""

import threading
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tests.support.cli import Said, invoke
from tests.support.processes import eventually
from tests.support.world import (
    HandDrivenWorker,
    RecordingBroker,
    World,
)
from worker.bootstrap.service import build_service
from worker.config.settings import Settings
from worker.domain.states import Resolution
from worker.store.database import Database
from worker.store.privacy.retention import BATCH, RetentionStore

DAYS = 30
DAY_S = 86_400
QUIET_S = 2 + 75 + 90 + 13
GIVES_UP = '[agents.default]\nfallback_text = "We will write to you."\n'
DELIVERED = '[channels.sms.delivery]\ntask = "t"\nqueue = "q"\n'


pytestmark = pytest.mark.simulator(reasoning=False, show_prefix=False)


def retention(world: World, *options: str, days: int | None = DAYS) -> Said:
    env = {"DATABASE_URL": world.database.url, "SANDBOX_DIR": str(world.folder / "none")}
    return invoke("retention", *options, env=env | ({"RETENTION_DAYS": str(days)} if days else {}))


def retained(world: World) -> str:
    said = retention(world)
    assert said.returncode == 0, said.stderr
    return said.stdout


def later(world: World, worker: HandDrivenWorker, seconds: float) -> None:
    world.clock.advance(seconds)
    worker.service.background.workers.beat(0.0)


def say(world: World, worker: HandDrivenWorker, *texts: str) -> None:
    for text in texts:
        worker.receive(world.envelope(text))
        worker.deliver()


def words(world: World) -> list[dict[str, Any]]:
    return world.database.rows(
        "SELECT t.input_text AS said, r.text <> '' AS reply, c.output IS NOT NULL AS output,"
        " m.envelope <> '{}' AS envelope, t.redacted_at IS NOT NULL AS redacted"
        " FROM turns t LEFT JOIN replies r ON r.turn_id = t.id"
        " LEFT JOIN calls c ON c.turn_id = t.id LEFT JOIN messages m ON m.turn_id = t.id"
        " ORDER BY t.id, c.id"
    )


WHOLE = {"reply": True, "output": True, "envelope": True, "redacted": False}
GONE = {"said": "", "reply": False, "output": False, "envelope": False, "redacted": True}


def test_old_texts_go_and_rows_and_young_texts_stay(world: World) -> None:
    mike = world.worker()
    say(world, mike, "one", "two")
    # As an answer leaves it that is more than the text of the reply.
    world.database.run("UPDATE calls SET output = '[{}]'")
    mike.receive(bulk := world.envelope("bulk", signals=["bulk"]))
    mike.receive({**world.envelope("no envelope"), "version": 2})
    mike.receive({**world.envelope("no envelope either"), "version": 2})
    assert mike.operator.dead_letters.resolve(
        mike.operator.dead_letters.find()[0].id, Resolution.DISMISSED
    )
    later(world, mike, (DAYS + 1) * DAY_S)
    say(world, mike, "three")

    seen = retention(world, "--dry-run")
    assert "would be removed: turns 2, messages 3, dead letters 1" in seen.stdout
    assert words(world)[0]["said"] == "one", "a dry run changes nothing"
    assert "removed: turns 2, messages 3, dead letters 1" in retained(world)
    assert words(world) == [GONE, GONE, {"said": "three", **WHOLE, "output": False}]
    assert [one.resolution for one in mike.operator.dead_letters.find(resolved=True)] == [None]
    assert [row["outcome"] for row in world.messages()] == [
        "answered",
        "answered",
        "bulk",
        "answered",
    ]
    assert "nothing" in retained(world)

    again = mike.receive(bulk)
    assert again is not None
    assert not again.fresh, "the same message_id is known for ever"


def test_a_message_that_a_worker_of_release_0_1_0_has_dropped_goes_too(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("bulk", signals=["bulk"]))
    world.database.run("UPDATE messages SET dropped_at = NULL")
    later(world, mike, (DAYS + 1) * DAY_S)
    assert "removed: messages 1" in retained(world)


def test_what_somebody_may_still_need_stays_however_old(world: World) -> None:
    mike = world.worker(DELIVERED)
    say(world, mike, "the last words of an open thread", "the very last")
    # On its way, and dead but not decided; both in threads that are closed.
    for user, state in (("+13125550002", "pending"), ("+13125550003", "sent")):
        mike.receive(world.envelope("keep this", user=user))
        mike.deliver()
        world.database.run(
            "UPDATE deliveries SET state = %s, due_at = now() + interval '1 year' WHERE"
            " channel_user_id = (SELECT id FROM channel_users WHERE address = %s)",
            state,
            user,
        )
    world.database.run("UPDATE conversations SET closed_at = now() WHERE channel_user_id > 1")
    world.database.run(
        "INSERT INTO dead_letters (kind, message_row_id, reason) SELECT 'message', max(id), 'x'"
        " FROM messages"
    )
    later(world, mike, (DAYS + 1) * DAY_S)
    retained(world)
    assert [row["said"] for row in words(world)] == ["", "the very last", "keep this", "keep this"]

    world.database.run("UPDATE deliveries SET state = 'sent', due_at = NULL")
    world.database.run("UPDATE dead_letters SET resolution = 'dismissed', resolved_at = now()")
    world.database.run("UPDATE conversations SET closed_at = now()")
    retained(world)
    assert words(world) == [GONE] * 4


def meet(world: World, worker: HandDrivenWorker) -> None:
    """Let time pass until everything has an outcome, or nobody works any more."""
    for _ in range(60):
        worker.answer()
        if not world.database.rows("SELECT FROM messages WHERE outcome IS NULL"):
            return
        later(world, worker, 5)
    raise AssertionError(f"not final: {world.messages()}")


@pytest.mark.parametrize(("fault", "calls"), [("stored_then_dropped", 1), ("dropped", 2)])
def test_an_unknown_outcome_after_retention_is_settled_once(
    world: World, fault: str, calls: int
) -> None:
    mike = world.worker()
    say(world, mike, "ok", "are you there?", "ok")
    later(world, mike, (DAYS + 1) * DAY_S)
    retained(world)
    assert [row["said"] for row in words(world)] == ["", "", "ok"]

    world.simulator.inject(fault)
    mike.receive(world.envelope("ok"))
    meet(world, mike)
    assert world.inputs() == ["ok", "are you there?", "ok", "ok"]
    assert world.database.value("SELECT diverged_at IS NULL FROM channel_users")
    assert world.replies()[-1]["source"] == ("adopted" if calls == 1 else "call")
    assert world.database.value("SELECT count(*) FROM calls WHERE turn_id = 4") == calls


def test_a_turn_that_was_given_up_and_turns_up_after_retention_is_known(world: World) -> None:
    mike = world.worker(GIVES_UP)
    say(world, mike, "hello")
    world.simulator.inject("dropped", count=3)
    mike.receive(world.envelope("lost for now"))
    for _ in range(400):
        mike.answer()
        if not world.database.rows("SELECT FROM messages WHERE outcome IS NULL"):
            break
        later(world, mike, 5)
    say(world, mike, "and now?")
    assert world.database.value("SELECT landed IS NULL FROM turns WHERE id = 2")
    later(world, mike, (DAYS + 1) * DAY_S)
    retained(world)
    assert [row["said"] for row in words(world) if row["output"] or row["said"]] == [
        "lost for now"
    ] * 3 + ["and now?"]

    (conversation,) = world.simulator.conversations()
    world.simulator.append_foreign_message(conversation.id, "lost for now")
    world.simulator.inject("dropped")
    mike.receive(world.envelope("still there?"))
    meet(world, mike)
    assert world.database.value("SELECT landed FROM turns WHERE id = 2")
    assert world.messages()[-1]["outcome"] == "answered"

    # Now it ends in words that are not those of the newest turn of the time before.
    later(world, mike, (DAYS + 1) * DAY_S)
    retained(world)
    assert "lost for now" in {row["said"] for row in words(world)}


def test_a_conversation_is_not_counted_anew_where_words_are_gone(world: World) -> None:
    """The count would take old words for those of the open turn, and old answers with them."""
    mike = world.worker()
    say(world, mike, "ok", "ok")
    later(world, mike, (DAYS + 1) * DAY_S)
    retained(world)
    world.simulator.inject("dropped")
    mike.receive(world.envelope("ok"))
    later(world, mike, QUIET_S + 1)

    conversation = world.simulator.conversations()[0].id
    store = mike.operator.adopt
    user = mike.operator.users.find(user_id=1)[0]
    with pytest.raises(Exception, match="words are gone here: reset instead"):
        store(user, mike.operator.ledger.find()[0].telnyx_id)  # type: ignore[arg-type]
    shown = mike.operator.compare(mike.operator.ledger.find()[0])
    assert [row.verdict for row in shown if row.turn] == ["matches", "matches", "only here"]
    meet(world, mike)
    assert world.inputs() == ["ok"] * 3
    assert conversation


def plant(world: World, number: int) -> None:
    """Many old turns of one person's closed conversation."""
    world.database.run(
        "INSERT INTO turns (channel_user_id, agent, agent_version, input_text, state, landed,"
        " opened_at, finished_at) SELECT 1, 'default', '', 'words', 'answered', true, at, at"
        f" FROM generate_series(1, {number}) n, LATERAL (SELECT"
        " service_now() - interval '1 year' + make_interval(secs => n / 3) AS at) AS one"
    )


def swept_by_another(world: World, settings: Settings, left: str) -> int:
    """What a worker that has just started leaves."""
    service = build_service(settings, broker=RecordingBroker())
    try:
        service.background.sweep()
        found: int = world.database.value(left)
    finally:
        service.close()
    return found


def test_the_sweeper_does_a_batch_at_a_time_once_an_hour(world: World) -> None:
    mike = world.worker()
    say(world, mike, "hello")
    plant(world, 2 * BATCH + 1)
    settings = replace(world.settings(), retention_days=DAYS)
    service = build_service(settings, broker=RecordingBroker())
    left = "SELECT count(*) FROM turns WHERE input_text = 'words'"
    try:
        found = []
        for _ in range(4):
            service.background.sweep()
            found.append(world.database.value(left))
        assert found == [BATCH + 1, 1, 0, 0]
        for _ in range(4):
            service.background.sweep()
        plant(world, 1)
        for _ in range(12):  # more than a whole pass takes
            service.background.sweep()
        assert world.database.value(left) == 1, "that is for the next hour"
        assert swept_by_another(world, settings, left) == 1, "and for one process of all"
        world.clock.advance(3601)
        assert swept_by_another(world, settings, left) == 0
    finally:
        service.close()
    assert mike.service.background.sweep.retention is None, "without the setting"  # type: ignore[attr-defined]


def test_a_pass_ends_where_another_process_is_at_it_and_a_person_waits(world: World) -> None:
    mike = world.worker()
    say(world, mike, "hello")
    plant(world, 1)
    database = Database(world.database.url, pool_size=1)
    store = RetentionStore(database, keep_days=DAYS)
    try:
        with psycopg.connect(world.database.url) as other:
            other.execute("SELECT FROM locks WHERE name = 'retention' FOR UPDATE")
            assert list(store.run(waits=False)) == []
        assert [dict(one) for one in store.run() if one] == [{"turns": 1}]
    finally:
        database.close()


def test_what_may_not_go_is_not_locked(world: World) -> None:
    mike = world.worker()
    say(world, mike, "one", "the last words of an open thread")
    world.database.run("UPDATE calls SET output = '[{}]'")
    later(world, mike, (DAYS + 1) * DAY_S)
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with psycopg.connect(world.database.url) as holder:
        holder.execute("SELECT FROM calls FOR UPDATE")
        taking = threading.Thread(target=retention, args=(world,))
        taking.start()
        assert eventually(lambda: world.database.value(blocked) == 1)
        assert world.database.rows("SELECT id FROM turns FOR UPDATE SKIP LOCKED") == [{"id": 2}]
        holder.rollback()
        taking.join(20)
    assert [row["said"] for row in words(world)] == ["", "the last words of an open thread"]


@pytest.mark.parametrize(
    ("days", "wanted"), [(None, "RETENTION_DAYS is not set"), (-1, "RETENTION_DAYS: ")]
)
def test_without_a_number_of_days_nothing_is_taken_out(
    world: World, days: int | None, wanted: str
) -> None:
    said = retention(world, days=days)
    assert said.returncode == 2
    assert wanted in said.stderr
