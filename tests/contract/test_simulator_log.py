"""The simulator's log: what it holds, what is read from it, and that threads outlive a restart."""

import asyncio
import json
import time
from pathlib import Path

import aiohttp
import httpx
import pytest

from tests.support.processes import eventually
from tests.support.requests_heard import requests_in
from worker.sandbox.simulator import (
    Simulator,
    SimulatorConfig,
    prefix_hash,
    read_log,
    running_simulator,
)
from worker.sandbox.simulator.record.events import (
    AnswerDropped,
    MessageStored,
    RequestReceived,
    Steered,
)
from worker.sandbox.simulator.record.log import user_texts, written_conversations


def client(sim: Simulator) -> httpx.Client:
    headers = {"authorization": f"Bearer {sim.api_key}"}
    return httpx.Client(base_url=sim.base_url, headers=headers, timeout=5)


def test_a_request_is_logged_whole_but_for_its_key(tmp_path: Path) -> None:
    path = tmp_path / "log"
    items = [{"role": "user", "content": "hello"}]
    with running_simulator(log_path=path) as sim, client(sim) as api:
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        api.post("/ai/openai/responses?x=%20", json={"input": items}, headers={"X-Mark": "m"})
        api.post("/ai/openai/responses", json={"input": "hello"})
    received = [e for e in read_log(path) if isinstance(e.event, RequestReceived)]
    first, second = (entry.event for entry in received)
    assert isinstance(first, RequestReceived)
    assert isinstance(second, RequestReceived)
    assert received[0].at >= before
    assert (first.method, first.path) == ("POST", "/v2/ai/openai/responses?x=%20")
    assert first.endpoint == "responses"
    assert first.headers["x-mark"] == "m"
    assert len(first.body_digest) == 64
    assert first.input_items == tuple(items)
    assert second.input_items == tuple(items)
    assert sim.api_key.encode() not in path.read_bytes()


def test_events_of_a_request_come_in_order_and_are_numbered(tmp_path: Path) -> None:
    with running_simulator(log_path=tmp_path / "log") as sim, client(sim) as api:
        thread = api.post("/ai/conversations").json()["id"]
        api.post("/ai/openai/responses", json={"conversation": thread, "input": "a"})
        entries = sim.log()
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert [entry.event.kind for entry in entries] == [
        "started",
        "request_received",
        "conversation_created",
        "execution_ended",
        "answer_sent",
        "request_received",
        "message_stored",
        "message_stored",
        "message_stored",
        "execution_ended",
        "answer_sent",
    ]
    stored = [e.event for e in entries if isinstance(e.event, MessageStored)]
    assert {each.request for each in stored} == {entries[5].seq}
    assert [each.index for each in stored] == [0, 1, 2]
    assert stored[2].prefix == prefix_hash([stored[0].message, stored[1].message])


def test_what_users_said_and_which_conversations_were_written_to_can_be_read() -> None:
    with running_simulator() as sim, client(sim) as api:
        first, second, unused = (api.post("/ai/conversations").json()["id"] for _ in range(3))
        for thread, text in ((second, "a"), (first, "b"), (second, "c")):
            api.post("/ai/openai/responses", json={"conversation": thread, "input": text})
        log = sim.log()
    assert written_conversations(log) == (second, first)
    assert user_texts(log, second) == ("a", "c")
    assert user_texts(log, unused) == ()


def test_requests_one_after_the_other_do_not_overlap() -> None:
    with running_simulator() as sim, client(sim) as api:
        thread = api.post("/ai/conversations").json()["id"]
        for text in "abc":
            api.post("/ai/openai/responses", json={"conversation": thread, "input": text})
        assert sim.overlaps() == ()


def test_a_late_execution_overlaps_with_what_was_sent_meanwhile() -> None:
    with running_simulator() as sim, client(sim) as api:
        thread = api.post("/ai/conversations").json()["id"]
        body = {"conversation": thread, "input": "a"}
        sim.inject("stored_late", after_s=0.6)
        with pytest.raises(httpx.RemoteProtocolError):
            api.post("/ai/openai/responses", json=body)
        api.post("/ai/openai/responses", json=body)
        assert eventually(lambda: sim.overlaps() != ())
        (overlap,) = sim.overlaps()
        assert overlap.earlier < overlap.later


def test_threads_and_idempotency_keys_outlive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "log"
    keyed = {"idempotency-key": "k"}
    with running_simulator(log_path=path) as sim, client(sim) as api:
        thread = api.post("/ai/conversations", json={}, headers=keyed).json()["id"]
        gone = api.post("/ai/conversations").json()["id"]
        api.delete(f"/ai/conversations/{gone}")
        api.put(f"/ai/conversations/{thread}", json={"metadata": {"a": "b"}})
        api.post("/ai/openai/responses", json={"conversation": thread, "input": "one"})
        before, messages = sim.conversations(), sim.messages(thread)
    with running_simulator(log_path=path) as sim, client(sim) as api:
        assert sim.conversations() == before
        assert sim.messages(thread) == messages
        again = api.post("/ai/conversations", json={}, headers=keyed)
        assert again.json()["id"] == thread
        api.post("/ai/openai/responses", json={"conversation": thread, "input": "two"})
        assert sim.messages(thread)[: len(messages)] == messages
    assert [entry.seq for entry in read_log(path)] == list(range(1, len(read_log(path)) + 1))


def test_a_torn_last_line_is_cut_off_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with running_simulator(log_path=path) as sim, client(sim) as api:
        api.post("/ai/conversations")
    whole = len(read_log(path))
    with path.open("ab") as log:
        log.write(b'{"seq": 99, "at"')
    assert len(read_log(path)) == whole
    with running_simulator(log_path=path) as sim:
        assert [entry.seq for entry in sim.log()] == list(range(1, whole + 2))
        assert len(sim.conversations()) == 1


def test_everything_can_be_steered_over_http_as_well() -> None:
    with running_simulator() as sim, httpx.Client(base_url=sim.root_url) as admin:
        order = {"fault": "500", "match": {"text": "x"}, "count": None, "changes": {"status": 501}}
        assert admin.post("/sim/faults", json=order).status_code == 200
        assert admin.get("/sim/faults").json()[0]["fault"] == "500"
        with client(sim) as api:
            answer = api.post("/ai/openai/responses", json={"input": "x"})
            assert answer.status_code == 501
            assert admin.delete("/sim/faults").status_code == 200
            assert sim.pending_faults() == ()
            script = {"text": "x", "reply": "y"}
            assert admin.post("/sim/scripts", json=script).status_code == 200
            assert "y [prefix" in api.post("/ai/openai/responses", json={"input": "x"}).text
            thread = api.post("/ai/conversations").json()["id"]
            foreign = {"conversation_id": thread, "text": "f"}
            assert admin.post("/sim/messages", json=foreign).status_code == 200
            assert sim.messages(thread)[0].text == "f"
            model = {"id": sim.config.models[0], "available": False}
            assert admin.post("/sim/models", json=model).status_code == 200
            refused = api.post("/ai/openai/responses", json={"input": "x", "model": model["id"]})
            assert refused.status_code == 400
            assert admin.post("/sim/config", json={"latency_s": 0.01}).status_code == 200
            assert sim.config.latency_s == 0.01
            assert admin.post("/sim/key", json={"api_key": "KEY-2"}).status_code == 200
            assert api.get("/ai/openai/models").status_code == 401
        lines = admin.get("/sim/log").text.splitlines()
        assert [json.loads(line)["seq"] for line in lines] == [each.seq for each in sim.log()]
        assert any(isinstance(entry.event, Steered) for entry in sim.log())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faults", {"fault": "nonsense"}),
        ("faults", {"fault": "500", "match": {"endpoint": "nowhere"}}),
        ("config", {"colour": "red"}),
        ("config", {"bad_filter": "perhaps"}),
        ("key", {}),
        ("models", []),
    ],
)
def test_steering_that_makes_no_sense_is_a_422(path: str, body: object) -> None:
    with running_simulator() as sim:
        assert httpx.post(f"{sim.root_url}/sim/{path}", json=body).status_code == 422


def test_locked_controls_want_the_key() -> None:
    with (
        running_simulator(SimulatorConfig(lock_controls=True)) as sim,
        httpx.Client(base_url=sim.root_url) as stranger,
    ):
        for method, path in (("GET", "/sim/log"), ("GET", "/%73im/log"), ("DELETE", "/sim/faults")):
            assert stranger.request(method, path).status_code == 401
        unlock = {"lock_controls": False}
        assert stranger.post("/sim/config", json=unlock).status_code == 401
        stranger.headers["authorization"] = f"Bearer {sim.api_key}"
        assert stranger.get("/sim/log").status_code == 200
        assert stranger.post("/sim/config", json=unlock).status_code == 200


def test_settings_that_make_no_sense_are_refused_at_once() -> None:
    with running_simulator() as sim, pytest.raises(ValueError, match="no such setting"):
        sim.reconfigure(colour="red")


def test_a_stop_ends_running_requests_soon_and_says_so() -> None:
    with running_simulator(SimulatorConfig(latency_s=30)) as sim, client(sim) as api:
        with pytest.raises(httpx.ReadTimeout):
            api.post("/ai/openai/responses", json={"input": "a"}, timeout=0.1)
        sim.inject("hang")
        with pytest.raises(httpx.ReadTimeout):
            api.post("/ai/openai/responses", json={"input": "a"}, timeout=0.1)
        started = time.monotonic()
    assert time.monotonic() - started < 10
    reasons = [e.event.reason for e in sim.log() if isinstance(e.event, AnswerDropped)]
    assert sorted(reasons) == ["client_left", "shutdown"]


def test_a_thousand_slow_requests_run_at_once(tmp_path: Path) -> None:
    count = 1000
    with running_simulator(SimulatorConfig(latency_s=60), log_path=tmp_path / "log") as sim:

        async def flood() -> None:
            headers = {"authorization": f"Bearer {sim.api_key}"}
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
                url = f"{sim.base_url}/ai/openai/responses"
                posts = [
                    asyncio.create_task(session.post(url, json={"input": "hello"}))
                    for _ in range(count)
                ]
                assert await asyncio.to_thread(
                    eventually, lambda: len(requests_in(sim.log())) == count
                )
                assert not any(post.done() for post in posts)

        asyncio.run(flood())
