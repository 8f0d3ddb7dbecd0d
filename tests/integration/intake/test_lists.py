"""Lists of envelopes in one task: each is as if it had come by itself."""

import json
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from redis import Redis

from tests.support.world import HandDrivenWorker, World
from worker.domain.errors import DatabaseAwayError
from worker.queue.entries import QueueEntries
from worker.queue.lifecycle import receive_each
from worker.queue.unwrap import body_of
from worker.store.turns.fast_path import StartStore

AGENTS = "[agents.default]\n[channels.sms]\nreorder_s = 0\ndebounce_s = 0\n"


class Task:
    """What `receive_each` needs of Celery's."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def keep_part(self, error: Exception, raw: bytes) -> None:
        assert type(error) is ZeroDivisionError
        self.kept.append(raw)


def receive(worker: HandDrivenWorker, *envelopes: object, task: Any = None) -> str:  # noqa: ANN401
    take = partial(worker.service.receive, queue="inbound", answers=False)
    return receive_each(task or Task(), envelopes, take)


def test_a_bad_one_is_a_dead_letter_of_its_own_and_the_others_go_on(world: World) -> None:
    mike = world.worker(AGENTS)
    good = [world.envelope(f"of {user}", user=f"+1312555000{user}") for user in range(3)]
    bad: list[object] = [{"version": 1, "text": "canary"}, [good[0]], 7]
    said = receive(mike, good[0], bad[0], good[1], *bad[1:], good[2], good[2])
    assert said == "accepted 3, refused 3, repeated 1"
    mike.service.finish_turns()
    assert sorted(world.inputs()) == ["of 0", "of 1", "of 2"]
    kept = world.database.rows("SELECT reason, raw FROM dead_letters ORDER BY id")
    assert {row["reason"] for row in kept} == {"envelope_invalid"}
    assert [json.loads(row["raw"])[1]["envelope"] for row in kept] == bad


def test_slow_answers_are_not_one_after_another_and_one_user_s_keep_their_order(
    world: World,
) -> None:
    mike = world.worker(AGENTS)
    users = [f"+1312555000{number}" for number in range(4)]
    for user in users:
        mike.receive(world.envelope("before", user=user))
    together = Barrier(len(users), timeout=20)
    turns = mike.service.answer.responses
    mike.service.answer.__dict__["responses"] = Waiting(turns, together)
    envelopes = [
        world.envelope(f"{number} of {user}", user=user) for number in range(3) for user in users
    ]
    receive(mike, *envelopes)
    mike.service.finish_turns()
    assert not together.broken, "each was at Telnyx while the others were"
    accepted = world.database.rows(
        "SELECT u.address, m.envelope ->> 'text' AS text FROM messages m"
        " JOIN channel_users u ON u.id = m.channel_user_id ORDER BY m.seq"
    )
    for user in users:
        texts = [row["text"] for row in accepted if row["address"] == user]
        assert texts == ["before", *(f"{number} of {user}" for number in range(3))]


class Waiting:
    """Telnyx's responses, which come once all have asked."""

    def __init__(self, inner: Any, together: Barrier) -> None:  # noqa: ANN401
        self._inner, self._together, self._calls = inner, together, 0

    def create(self, *args: Any) -> Any:  # noqa: ANN401
        self._calls += 1
        if self._calls <= self._together.parties:
            self._together.wait()
        return self._inner.create(*args)


def test_a_list_comes_again_if_postgres_goes_away_in_the_middle(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    mike = world.worker(AGENTS)
    envelopes = [world.envelope(f"{user}", user=f"+1312555000{user}") for user in range(3)]
    real, calls = StartStore.start, []

    def away(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        calls.append(1)
        if len(calls) == 2:
            raise DatabaseAwayError("gone")
        return real(*args, **options)

    monkeypatch.setattr(StartStore, "start", away)
    with pytest.raises(DatabaseAwayError):
        receive(mike, *envelopes)
    assert world.database.value("SELECT count(*) FROM messages") == 1
    assert receive(mike, *envelopes) == "repeated 1, accepted 2"
    mike.service.finish_turns()
    assert sorted(world.inputs()) == ["0", "1", "2"]
    assert mike.service.answer.slots.busy == 0


def test_a_defect_costs_one_envelope_and_not_the_list(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    mike, task = world.worker(AGENTS), Task()
    envelopes = [world.envelope(f"{user}", user=f"+1312555000{user}") for user in range(3)]
    real, bad = StartStore.start, envelopes[1]["message_id"]

    def broken(store: StartStore, message: Any, **options: Any) -> Any:  # noqa: ANN401
        return real(store, message, **options) if message.message_id != bad else 1 // 0

    monkeypatch.setattr(StartStore, "start", broken)
    assert receive(mike, *envelopes, task=task) == "accepted 2, failed 1"
    mike.service.finish_turns()
    assert [json.loads(raw)[1]["envelope"] for raw in task.kept] == [envelopes[1]]
    assert mike.service.answer.slots.busy == 0


def test_of_a_list_only_what_belongs_to_a_user_is_removed(broker_url: str) -> None:
    own, other = ({"user": user, "text": user} for user in ("ann", "bob"))

    def belongs(raw: bytes) -> bool:
        return b"ann" in raw

    with Redis.from_url(broker_url) as redis:
        queues = QueueEntries(redis)
        entries = [entry(one) for one in ([own, other], [own, own], [other], own, other)]
        redis.rpush("inbound", *entries)
        for number, one in enumerate(entries):
            redis.hset("unacked", str(number), f'[{one}, "", "inbound"]')
            redis.zadd("unacked_index", {str(number): 1.0})
        assert queues.remove(belongs, dry_run=True) == 3
        assert queues.remove(belongs) == 3
        left = [envelopes_in(raw) for raw in redis.lrange("inbound", 0, -1)]
        assert left == [[other], [other], other], "in their order"
        taken = queues.in_hand(belongs)
        assert sorted(taken) == [b"0", b"1", b"3"]
        assert queues.forget(taken, belongs) == 3
        assert queues.in_hand(belongs) == []
        notes = {key: json.loads(note)[0] for key, note in redis.hgetall("unacked").items()}
        assert envelopes_in(json.dumps(notes[b"0"])) == [other]
        assert notes.keys() == {b"0", b"2", b"4"}


def entry(envelopes: object) -> str:
    return json.dumps({"body": json.dumps([[], {"envelope": envelopes}, {}]), "properties": {}})


def envelopes_in(raw: str | bytes) -> object:
    return json.loads(body_of(json.loads(raw)))[1]["envelope"]
