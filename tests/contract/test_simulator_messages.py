"""Reading and adding messages at the simulator."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from worker.sandbox.simulator import Simulator, SimulatorConfig, running_simulator


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with running_simulator(SimulatorConfig(messages_order="oldest_first")) as running:
        yield running


@pytest.fixture
def path(api: httpx.Client) -> str:
    return f"/ai/conversations/{api.post('/ai/conversations').json()['id']}"


def add(api: httpx.Client, path: str, text: str) -> httpx.Response:
    return api.post(f"{path}/message", json={"role": "user", "content": text})


def texts(api: httpx.Client, path: str, **params: str) -> list[str]:
    answer = api.get(f"{path}/messages", params=params).raise_for_status().json()
    return [each["text"] for each in answer["data"]]


def test_an_added_message_is_called_content_when_sent_and_text_when_read(
    api: httpx.Client, path: str
) -> None:
    body = {
        "role": "assistant",
        "content": "from a person",
        "sent_at": "2026-10-21T13:09:00Z",
        "metadata": {"by": "ann"},
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    }
    answer = api.post(f"{path}/message", json=body)
    assert (answer.status_code, answer.content) == (200, b"")
    (message,) = api.get(f"{path}/messages").json()["data"]
    assert message["role"] == "assistant"
    assert message["text"] == "from a person"
    assert message["sent_at"] == "2026-10-21T13:09:00.000000Z"
    assert message["metadata"] == {"by": "ann"}
    assert message["tool_calls"] == body["tool_calls"]


def test_adding_a_message_moves_the_time_of_the_last_one(api: httpx.Client, path: str) -> None:
    before = api.get(path).json()["data"]
    add(api, path, "hello")
    after = api.get(path).json()["data"]
    assert after["last_message_at"] > before["last_message_at"]
    assert after["created_at"] == before["created_at"]


@pytest.mark.parametrize(
    "body", [{}, {"role": 1}, {"role": "user", "content": 5}, {"role": "user", "sent_at": "x"}]
)
def test_a_message_that_makes_no_sense_is_a_422(
    api: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    assert api.post(f"{path}/message", json=body).status_code == 422


def test_adding_a_message_honours_an_idempotency_key(
    api: httpx.Client, path: str, sim: Simulator
) -> None:
    for _ in "ab":
        body = {"role": "user", "content": "once"}
        answer = api.post(f"{path}/message", json=body, headers={"idempotency-key": "k"})
        assert answer.status_code == 200
    assert len(sim.messages(path.rpartition("/")[2])) == 1


def test_messages_come_in_pages(api: httpx.Client, path: str) -> None:
    for number in range(5):
        add(api, path, str(number))
    assert texts(api, path, **{"page[size]": "2", "page[number]": "2"}) == ["2", "3"]
    assert texts(api, path, **{"page[size]": "2", "page[number]": "9"}) == []
    meta = api.get(f"{path}/messages", params={"page[size]": "2"}).json()["meta"]
    assert meta == {"total_pages": 3, "total_results": 5, "page_number": 1, "page_size": 2}


def test_a_page_has_twenty_messages_unless_asked(api: httpx.Client, path: str) -> None:
    for number in range(21):
        add(api, path, str(number))
    assert len(texts(api, path)) == 20


@pytest.mark.parametrize(
    "params", [{"page[size]": "0"}, {"page[size]": "101"}, {"page[number]": "0"}]
)
def test_a_page_that_cannot_be_is_a_422(
    api: httpx.Client, path: str, params: dict[str, str]
) -> None:
    assert api.get(f"{path}/messages", params=params).status_code == 422


def test_the_order_of_the_listing_is_a_switch(api: httpx.Client, path: str, sim: Simulator) -> None:
    said = [str(number) for number in range(8)]
    for text in said:
        add(api, path, text)
    assert texts(api, path) == said
    sim.reconfigure(messages_order="newest_first")
    assert texts(api, path) == said[::-1]
    sim.reconfigure(messages_order="shuffled")
    assert sorted(texts(api, path)) == said
    assert texts(api, path) == texts(api, path)


def test_times_grow_strictly_unless_their_digits_are_cut(
    api: httpx.Client, path: str, sim: Simulator
) -> None:
    for number in range(5):
        add(api, path, str(number))
    times = [each["created_at"] for each in api.get(f"{path}/messages").json()["data"]]
    assert times == sorted(set(times))
    sim.reconfigure(timestamp_digits=0)
    first = api.get(f"{path}/messages").json()["data"][0]["created_at"]
    assert len(first) == len("2026-10-21T13:09:00Z")


def test_stale_reads_omit_what_was_said_lately(
    api: httpx.Client, path: str, sim: Simulator
) -> None:
    add(api, path, "hello")
    sim.inject("stale_reads", stale_s=60)
    stale = api.get(f"{path}/messages").json()
    assert stale["data"] == []
    assert stale["meta"]["total_results"] == 0
    assert texts(api, path) == ["hello"]
    sim.reconfigure(messages_stale_s=60)
    assert texts(api, path) == []


def test_a_foreign_message_can_be_put_into_a_thread(
    api: httpx.Client, path: str, sim: Simulator
) -> None:
    sim.append_foreign_message(path.rpartition("/")[2], "not mine", role="assistant")
    assert texts(api, path) == ["not mine"]
