"""A real Celery worker on a real Redis, fed with everything that is not a message."""

import base64
import hashlib
import json
import pickle
import re
import shelve
import signal
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from celery import Celery
from celery.utils.collections import LimitedSet

from tests.fuzz.intake import ControlMessages
from tests.support.intake_worker import (
    CANARY,
    FIXTURES,
    INDEX,
    Worker,
    assert_tells_nothing,
    call,
    fixture,
    wake,
)
from worker.queue.gate.control import read_broadcast
from worker.sandbox.redis import EmbeddedRedis

PIDBOX = "/0.celery.pidbox"
DROPPED = re.compile(r"control_message\.dropped +reason=(\w+)$", re.MULTILINE)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def worker(redis: EmbeddedRedis, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(redis, tmp_path)
    yield worker
    worker.stop()


def test_every_bad_entry_is_kept_once_every_good_one_runs_and_the_worker_lives(
    worker: Worker,
) -> None:
    too_large = json.loads(fixture("good_python"))
    too_large["body"] = base64.b64encode(b"[[], {}, {}]" + b" " * 1024 * 1024).decode()
    expected = [("too_large", json.dumps(too_large).encode())]
    worker.push(expected[0][1])
    good = 0
    for number, case in enumerate(INDEX):
        raw = (FIXTURES / case["file"]).read_bytes()
        worker.push(raw)
        worker.push(wake(number), queue="turns")
        good += case["reason"] is None
        if case["reason"] is not None:
            expected.append((case["reason"], raw))
    worker.start()
    worker.wait_for(rows=len(expected), runs=good + len(INDEX))
    kept = [(row["reason"], base64.b64decode(row["raw"])) for row in worker.rows()]
    assert sorted(kept) == sorted(expected)
    assert {row["pid"] for row in worker.rows() + worker.runs()} == {worker.processes[0].pid}
    assert worker.processes[0].is_running
    assert_tells_nothing(worker.output())
    assert_tells_nothing(json.dumps([row["detail"] for row in worker.rows()]))


@pytest.mark.parametrize("how", ["away", "broken"])
def test_nothing_is_lost_while_rows_cannot_be_written(worker: Worker, how: str) -> None:
    away = worker.folder / how
    away.touch()
    bad = [f"garbage {number}".encode() for number in range(30)]
    worker.push(*bad, *(call("messages.receive") for _ in range(10)))
    worker.start()
    worker.wait_until_ready()
    began, before = time.monotonic(), worker.times_put_back()
    worker.wait(lambda: worker.times_put_back() >= before + 40)
    assert worker.rows() == worker.runs() == []
    put_back = worker.times_put_back() - before
    pauses = (time.monotonic() - began) / 0.2  # of each of the 8 threads
    assert put_back <= 8 * (pauses + 2)
    assert "\nTraceback" not in worker.output()
    away.unlink()
    worker.wait(lambda: len(worker.rows()) + len(worker.runs()) >= 40)
    worker.wait(worker.is_idle)
    # A good one that was tried in the instant between two writes is a dead letter: not lost either.
    kept = [row["raw"] for row in worker.rows() if row["reason"] != "task_failed"]
    assert sorted(map(base64.b64decode, kept)) == sorted(bad)
    assert len(worker.rows()) + len(worker.runs()) == 40
    assert_tells_nothing(worker.output())


def test_a_worker_killed_before_the_row_was_written_leaves_the_entry_to_the_next(
    redis: EmbeddedRedis, tmp_path: Path
) -> None:
    worker = Worker(redis, tmp_path, INTAKE_VISIBILITY_S="2")
    (tmp_path / "away").touch()
    try:
        worker.push(b"garbage", fixture("not_utf8"), call("messages.receive"))
        worker.start()
        worker.wait(lambda: worker.client.hlen("unacked") == 3)
        worker.processes[0].kill()
        (tmp_path / "away").unlink()
        worker.start()
        worker.wait_for(rows=2, runs=1)
        kept = {base64.b64decode(row["raw"]) for row in worker.rows()}
        assert kept == {b"garbage", fixture("not_utf8")}
    finally:
        worker.stop()


def test_a_task_with_a_defect_is_kept_with_the_body_as_it_came(worker: Worker) -> None:
    raw = call("messages.fail")
    worker.push(raw)
    worker.start()
    worker.wait_for(rows=1)
    (row,) = worker.rows()
    assert row["reason"] == "task_failed"
    assert row["queue"] == "inbound"
    assert row["detail"].startswith("ValueError < intake_app.py:")
    assert row["raw"] == json.loads(raw)["body"]
    assert "raised unexpected: TaskDefectError('ValueError < intake_app.py:" in worker.output()
    assert_tells_nothing(worker.output())


def test_a_task_that_may_succeed_later_does(worker: Worker) -> None:
    (worker.folder / "telnyx_away").touch()
    worker.push(call("messages.away"), call("messages.receive"))
    worker.start()
    worker.wait(lambda: len(worker.rows("tries")) >= 3)
    (worker.folder / "telnyx_away").unlink()
    worker.wait_for(runs=2)
    assert [run["task"] for run in worker.runs()] == ["messages.receive", "messages.away"]
    assert_tells_nothing(worker.output())


def test_neither_inspect_nor_events_show_arguments(worker: Worker) -> None:
    worker.start()
    worker.wait_until_ready()
    app = Celery(broker=worker.broker, set_as_current=False)
    events: list[dict[str, Any]] = []
    receiver = app.events.Receiver(app.connection(), handlers={"*": events.append})
    with receiver.consumer_context(wakeup=False) as (connection, _, _):
        connection.drain_events(timeout=10)  # subscribes; a worker sends a heartbeat every 2 s
        worker.push(*(call("messages.slow") for _ in range(8)))
        worker.wait(lambda: worker.client.hlen("unacked") == 8)
        inspect = app.control.inspect(timeout=1)
        (active,) = inspect.active().values()
        shown = [active, inspect.reserved(), inspect.query_task([task["id"] for task in active])]
        shown += [one for asked in (inspect.stats(), inspect.conf()) for one in asked.values()]
        assert not any("error" in one for one in shown[-2:]), "Flower asks for both"
        worker.push(call("messages.fail"), b"garbage " + CANARY.encode())
        counts: Counter[str] = Counter()
        while (counts["task-succeeded"], counts["task-failed"]) != (8, 2):
            connection.drain_events(timeout=10)
            counts = Counter(event["type"] for event in events)
    assert len(active) == 8
    assert counts["task-received"] == counts["task-started"] == 10
    (refused,) = (event for event in events if event.get("result") == "refused not_json")
    assert refused["type"] == "task-failed", "Flower shows it in red"
    assert "traceback" not in refused
    assert_tells_nothing(json.dumps([shown, events], default=str))
    app.close()


def test_events_go_out_together_and_those_of_the_last_tasks_before_a_worker_ends(
    worker: Worker,
) -> None:
    worker.start()
    worker.wait_until_ready()
    app = Celery(broker=worker.broker, set_as_current=False)
    events: list[dict[str, Any]] = []
    receiver = app.events.Receiver(app.connection(), handlers={"*": events.append})
    with receiver.consumer_context(wakeup=False) as (connection, _, _):
        connection.drain_events(timeout=10)
        before = worker.client.info("commandstats")["cmdstat_publish"]["calls"]
        worker.push(*(call("messages.receive") for _ in range(100)))
        worker.wait_for(runs=100)
        worker.push(call("messages.slow"))
        worker.wait(lambda: worker.client.hlen("unacked") == 1)
        worker.processes[0].send_signal(signal.SIGTERM)
        counts: Counter[str] = Counter()
        while counts["worker-offline"] < 1 or counts["task-succeeded"] < 101:
            connection.drain_events(timeout=10)
            counts = Counter(event["type"] for event in events)
    assert counts["task-received"] == counts["task-started"] == 101
    published = worker.client.info("commandstats")["cmdstat_publish"]["calls"] - before
    assert published < 60, "heartbeats among them"
    assert worker.processes[0].wait(20)
    app.close()


def test_messages_are_taken_and_survive_while_the_memory_of_redis_is_full(worker: Worker) -> None:
    worker.start()
    worker.wait_until_ready()
    worker.push(*(call("messages.receive") for _ in range(5)), b"garbage " + CANARY.encode())
    worker.wait_for(rows=1, runs=5)
    with worker.client.pipeline() as pipe:
        for _ in range(20):
            pipe.lpush("inbound", call("messages.receive"))
        pipe.lpush("inbound", b"garbage " + CANARY.encode())
        pipe.config_set("maxmemory", "1")
        pipe.execute()
    worker.wait(lambda: len(worker.runs()) == 25)
    worker.client.config_set("maxmemory", "0")
    worker.wait_for(rows=2, runs=25)
    assert_tells_nothing(worker.output())


def test_a_cut_connection_loses_nothing(worker: Worker) -> None:
    worker.start()
    worker.wait_until_ready()
    numbers = range(300)
    for number in numbers:
        worker.push(wake(number), queue="turns")
        worker.push(f"garbage {number}".encode())
        if number % 60 == 30:
            worker.client.client_kill_filter(_type="normal", skipme=True)

    def arrived() -> int:
        return len({row["raw"] for row in worker.rows()} | {run["id"] for run in worker.runs()})

    worker.wait(lambda: arrived() >= 2 * len(numbers))
    worker.wait(worker.is_idle)
    assert_tells_nothing(worker.output())


def test_a_worker_told_to_stop_leaves_to_the_next_what_it_does_not_run(worker: Worker) -> None:
    worker.start()
    worker.wait_until_ready()
    for number in range(300):
        worker.push(f"garbage {number}".encode())
        if number == 100:
            worker.processes[0].send_signal(signal.SIGTERM)
        time.sleep(0.005)
    assert worker.processes[0].wait(20)
    worker.start()
    worker.wait(lambda: len({row["raw"] for row in worker.rows()}) == 300)
    worker.wait(worker.is_idle)


def test_notes_of_unacked_messages_are_restored_whatever_they_hold(worker: Worker) -> None:
    stranger = json.loads(call("messages.receive"))
    notes = {
        "a": b"\xff\xfe " + CANARY.encode(),
        "b": json.dumps([CANARY, "", "inbound"]).encode(),
        "c": json.dumps([stranger, "exchange nobody declared", "inbound"]).encode(),
        "d": b"[]",
    }
    # Of another application in this database, whose task takes its time.
    theirs = json.dumps([stranger, "", "shop"]).encode()
    worker.client.hset("unacked", "theirs", theirs)
    worker.client.zadd("unacked_index", {"theirs": 1.0})
    worker.client.hset("unacked", mapping=notes)  # type: ignore[arg-type]
    worker.client.zadd("unacked_index", dict.fromkeys(notes, 1.0))
    worker.start()
    worker.wait(lambda: len(worker.rows()) == 3 and len(worker.runs()) == 1)
    kept = {base64.b64decode(row["raw"]): row["reason"] for row in worker.rows()}
    unreadable = dict.fromkeys((notes["a"], notes["d"]), "unacked_unreadable")
    assert kept == unreadable | {json.dumps(CANARY).encode(): "not_an_object"}
    assert worker.client.hget("unacked", "theirs") == theirs
    assert worker.client.zscore("unacked_index", "theirs") == 1.0
    assert not worker.client.exists("shop")
    assert_tells_nothing(worker.output())


def test_what_celery_refuses_behind_the_gate_is_kept_too(
    redis: EmbeddedRedis, tmp_path: Path
) -> None:
    worker = Worker(redis, tmp_path, INTAKE_HOLE="1")
    try:
        worker.push(call("ghost"), call("messages.receive"))
        worker.start()
        worker.wait_for(rows=1, runs=1)
        (row,) = worker.rows()
        assert (row["reason"], row["detail"]) == ("not_understood", "on_unknown_task")
        raw = json.loads(base64.b64decode(row["raw"]))
        assert json.loads(base64.b64decode(raw["body"]))[1] == {"envelope": CANARY}
        assert_tells_nothing(worker.output())
    finally:
        worker.stop()


def test_remote_control_asks_and_changes_nothing(worker: Worker) -> None:
    """Another application in the same Redis, and a stranger: what they order has no effect."""
    worker.start()
    worker.wait_until_ready()
    for message in garbage_for_control():
        worker.client.publish(PIDBOX, message)
    worker.push(b"garbage", queue="other")
    control = Celery("another app", broker=worker.broker, set_as_current=False).control
    control.add_consumer("other")
    control.cancel_consumer("inbound")
    control.rate_limit("messages.receive", "1/h")
    control.time_limit("messages.receive", soft=0.001, hard=0.001)
    control.pool_shrink(100)
    control.broadcast("election", arguments={"id": "x", "topic": "task", "action": {}})
    entries = [call("messages.receive") for _ in range(5)]
    ids = [json.loads(entry)["headers"]["id"] for entry in entries]
    control.revoke(ids)
    control.terminate(ids)
    control.broadcast("hello", arguments={"from_node": "celery@elsewhere", "revoked": ids})
    control.shutdown()
    worker.push(*entries)
    worker.wait_for(runs=5)
    assert worker.client.llen("other") == 1
    (answer,) = control.ping(timeout=1)
    assert list(answer.values()) == [{"ok": "pong"}]
    dropped = DROPPED.findall(worker.output())
    assert len(dropped) == len(garbage_for_control()) + 10
    assert dropped.count("not_allowed") == 11
    assert_tells_nothing(worker.output())
    assert worker.peak_mb() < 200


def test_control_messages_at_random_leave_a_worker_as_it_was(worker: Worker) -> None:
    """Those of the fuzz, which reads them in its own process, over the exchange."""
    kind = ControlMessages()
    inputs = [kind.one(Random(f"exchange {number}")) for number in range(400)]  # noqa: S311
    # Of an empty one Redis tells nobody.
    inputs = [raw for raw in inputs if raw]
    refused = sum(read_broadcast(raw, queue="w@h.celery.pidbox") is None for raw in inputs)
    worker.start()
    worker.wait_until_ready()
    before_mb = worker.peak_mb()
    for raw in inputs:
        worker.client.publish(PIDBOX, raw)
    worker.push(call("messages.receive"))
    worker.wait_for(runs=1)
    worker.wait(lambda: len(DROPPED.findall(worker.output())) == refused)
    control = Celery("another app", broker=worker.broker, set_as_current=False).control
    (answer,) = control.ping(timeout=1)
    assert list(answer.values()) == [{"ok": "pong"}]
    assert worker.processes[0].is_running
    assert "Traceback" not in worker.output()
    assert worker.peak_mb() - before_mb < 16
    assert 0 < refused < len(inputs)


def garbage_for_control() -> list[bytes]:
    """What no worker may take for an order, unpack, or end of."""
    entry = json.loads(call("messages.receive"))
    ping = {"method": "ping", "arguments": {}, "destination": None}

    def order(content: object, **fields: object) -> bytes:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = fields.pop("headers", {"clock": 1})
        return json.dumps(
            entry | {"headers": headers, "body": base64.b64encode(body).decode()} | fields
        ).encode()

    bomb = zlib.compress(b" " * 300 * 1024 * 1024)
    return [
        *(b"garbage", b"[1]", b"{}", b"5", b"\xff", b"[" * 100_000, b"null" * 9),
        *(order(content) for content in ([], 7, None, "x" * 100_000, b"\xff", b"[" * 5000)),
        order(bomb, headers={"clock": 1, "compression": "application/x-gzip"}),
        order(b"cos\nsystem\n.", **{"content-type": "application/x-python-serialize"}),
        order(ping | {"arguments": {CANARY: 1}}),
        order(ping | {"method": "query_task"}),
        order(ping | {"pattern": "(a+)+$", "matcher": "pcre"}),
        order(ping | {"destination": CANARY}),
        order(ping | {"reply_to": {"exchange": "", "routing_key": "inbound"}}),
        order(ping | {"reply_to": CANARY}),
        order({"method": "registered", "arguments": {"taskinfoitems": ["app"]}}),
        order({"method": {"__type__": "uuid", "__value__": CANARY}}),
    ]


def test_ids_revoked_in_a_file_of_celery_are_processed_all_the_same(worker: Worker) -> None:
    entry = call("messages.receive")
    revoked = LimitedSet()
    revoked.add(json.loads(entry)["headers"]["id"])
    with shelve.open(str(worker.folder / "state")) as state:  # noqa: S301 # what Celery writes
        state.update(zrevoked=zlib.compress(pickle.dumps(revoked)), __proto__=3, clock=1)
    worker.start("--statedb", str(worker.folder / "state"))
    worker.wait_until_ready()
    worker.push(entry)
    worker.wait_for(runs=1)


@pytest.mark.parametrize("mebibytes", [3, 100])
def test_a_large_entry_leaves_its_head_length_and_hash_once_in_little_memory(
    worker: Worker, mebibytes: int
) -> None:
    worker.start()
    worker.wait_until_ready()
    worker.push(call("messages.receive"))
    worker.wait_for(runs=1)
    before_mb = worker.peak_mb()
    raw = b'{"body": "' + CANARY.encode() + b"x" * mebibytes * 1024 * 1024
    worker.push(raw, call("messages.receive"))
    worker.wait_for(rows=1, runs=2)
    (row,) = worker.rows()
    assert row["reason"] == "too_large"
    digest = hashlib.sha256(raw).hexdigest()
    assert row["detail"] == f"{len(raw)} bytes, sha256 {digest}; the first 65536 are kept"
    assert base64.b64decode(row["raw"]) == raw[:65536]
    assert worker.peak_mb() - before_mb < 16
    assert_tells_nothing(worker.output())


def test_a_large_note_and_a_large_broadcast_are_not_held_either(worker: Worker) -> None:
    note = json.dumps([json.loads(call("messages.receive")), "", "inbound"]).encode()
    worker.client.hset("unacked", "a", note + b" " * 40 * 1024 * 1024)
    worker.client.zadd("unacked_index", {"a": 1.0})
    worker.start()
    worker.wait_until_ready()
    before_mb = worker.peak_mb()
    worker.wait_for(rows=1)
    (row,) = worker.rows()
    assert row["reason"] == "unacked_unreadable"
    assert base64.b64decode(row["raw"]) == (note + b" " * 65536)[:65536]
    # Redis itself cuts a subscriber off whose answers reach 32 MB.
    worker.client.publish(PIDBOX, b"x" * 20 * 1024 * 1024)
    worker.push(call("messages.receive"))
    worker.wait_for(rows=1, runs=1)
    worker.wait(lambda: "control_message.dropped" in worker.output())
    assert worker.peak_mb() - before_mb < 24


def test_messages_of_every_priority_come_back_to_their_own_list(worker: Worker) -> None:
    (worker.folder / "away").touch()
    worker.client.lpush("inbound\x06\x163", b"garbage", call("messages.receive"))
    worker.start()
    worker.wait(lambda: worker.times_put_back() >= 4)
    worker.processes[0].send_signal(signal.SIGTERM)
    assert worker.processes[0].wait(20)
    assert worker.client.llen("inbound\x06\x163") == 2
    (worker.folder / "away").unlink()
    worker.start()
    worker.wait_for(rows=1, runs=1)


def test_a_worker_does_not_start_on_a_queue_without_a_gate(worker: Worker) -> None:
    worker.start(queues="inbound,other")
    assert worker.processes[0].wait(20)
    assert worker.processes[0].exit_code != 0
    assert "no accepted tasks for queue other" in worker.output()
