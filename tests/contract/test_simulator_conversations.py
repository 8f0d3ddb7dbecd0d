"""The simulator's conversations API over real HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import httpx
import pytest

from tests.support.processes import eventually
from tests.support.requests_heard import requests_in
from worker.sandbox.simulator import Simulator, SimulatorConfig, running_simulator


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with running_simulator(SimulatorConfig(list_visible_after_s=0)) as running:
        yield running


def create(api: httpx.Client, name: str = "", **metadata: str) -> str:
    body = {"name": name, "metadata": metadata}
    return str(api.post("/ai/conversations", json=body).raise_for_status().json()["id"])


def listed(api: httpx.Client, **params: str) -> list[str]:
    answer = api.get("/ai/conversations", params=params).raise_for_status()
    return [each["id"] for each in answer.json()["data"]]


def test_a_request_without_the_key_is_a_401_with_code_10009(sim: Simulator) -> None:
    for headers in ({}, {"authorization": "Bearer KEY-wrong"}, {"authorization": sim.api_key}):
        answer = httpx.get(f"{sim.base_url}/ai/conversations", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["errors"][0]["code"] == "10009"
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/ai/nothing"), ("PATCH", "/ai/conversations"), ("GET", "/ai/openai/responses")],
)
def test_an_unknown_path_or_method_is_a_404_with_code_10005(
    api: httpx.Client, method: str, path: str
) -> None:
    answer = api.request(method, path)
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["code"] == "10005"


def test_create_answers_200_with_the_bare_object(api: httpx.Client) -> None:
    answer = api.post("/ai/conversations", json={"name": "n", "metadata": {"user": "+1"}})
    assert answer.status_code == 200
    created = answer.json()
    assert created["name"] == "n"
    assert created["metadata"] == {"user": "+1"}
    assert created["last_message_at"] == created["created_at"]
    assert datetime.fromisoformat(created["created_at"]).tzinfo is not None


def test_create_takes_an_empty_body(api: httpx.Client) -> None:
    assert api.post("/ai/conversations").json()["metadata"] == {}


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"metadata": {"n": 1}}, ["body", "metadata", "n"]),
        ({"metadata": {"ai_disabled": True}}, ["body", "metadata", "ai_disabled"]),
        ({"metadata": []}, ["body", "metadata"]),
        ({"metadata": {str(n): "" for n in range(17)}}, ["body", "metadata"]),
        ({"metadata": {"long": "x" * 513}}, ["body", "metadata", "long"]),
        ({"name": 7}, ["body", "name"]),
        ([], ["body"]),
    ],
)
def test_create_refuses_what_is_not_in_the_schema(
    api: httpx.Client, sim: Simulator, body: object, loc: list[str]
) -> None:
    answer = api.post("/ai/conversations", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == loc
    assert sim.conversations() == ()


def test_a_body_that_is_no_json_or_has_half_a_surrogate_is_a_422(api: httpx.Client) -> None:
    for raw in (b"{", b'{"name": "\\ud800"}', b"\xff"):
        assert api.post("/ai/conversations", content=raw).status_code == 422


def test_the_same_key_and_body_replay_the_first_answer(api: httpx.Client, sim: Simulator) -> None:
    first, again = (
        api.post("/ai/conversations", json={}, headers={"idempotency-key": "k:1"}) for _ in "ab"
    )
    assert again.json() == first.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(sim.conversations()) == 1


def test_the_same_key_with_another_body_is_a_422(api: httpx.Client, sim: Simulator) -> None:
    keyed = {"idempotency-key": "k"}
    api.post("/ai/conversations", content=b'{"name":"a"}', headers=keyed)
    assert api.post("/ai/conversations", content=b'{"name": "a"}', headers=keyed).status_code == 422
    assert len(sim.conversations()) == 1


def test_a_key_outside_of_the_pattern_is_a_422(api: httpx.Client) -> None:
    for key in ("with space", "+13125550001", "k" * 256):
        answer = api.post("/ai/conversations", json={}, headers={"idempotency-key": key})
        assert answer.status_code == 422


def test_a_key_in_flight_is_a_409_and_its_first_request_stands(sim: Simulator) -> None:
    sim.reconfigure(other_latency_s=0.6)
    headers = {"authorization": f"Bearer {sim.api_key}", "idempotency-key": "k"}

    def post() -> httpx.Response:
        return httpx.post(f"{sim.base_url}/ai/conversations", json={}, headers=headers)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(post)
        assert eventually(lambda: len(requests_in(sim.log())) == 1)
        second = post()
    assert (first.result().status_code, second.status_code) == (200, 409)
    assert len(sim.conversations()) == 1


def test_a_refused_request_does_not_use_up_its_key(api: httpx.Client) -> None:
    keyed = {"idempotency-key": "k"}
    bad = api.post("/ai/conversations", json={"name": 1}, headers=keyed)
    good = api.post("/ai/conversations", json={"name": "a"}, headers=keyed)
    assert (bad.status_code, good.status_code) == (422, 200)


def test_an_old_key_is_forgotten(api: httpx.Client, sim: Simulator) -> None:
    sim.reconfigure(idempotency_ttl_s=0)
    for _ in "ab":
        api.post("/ai/conversations", json={}, headers={"idempotency-key": "k"})
    assert len(sim.conversations()) == 2


def test_retrieve_and_update_are_wrapped_in_data(api: httpx.Client) -> None:
    found = create(api, a="1", b="2")
    changed = api.put(f"/ai/conversations/{found}", json={"metadata": {"a": "3"}})
    assert changed.json()["data"]["metadata"] == {"a": "3"}
    assert api.get(f"/ai/conversations/{found}").json() == changed.json()


def test_update_can_merge_instead(api: httpx.Client, sim: Simulator) -> None:
    sim.reconfigure(put_metadata="merge")
    found = create(api, a="1", b="2")
    changed = api.put(f"/ai/conversations/{found}", json={"metadata": {"a": "3"}})
    assert changed.json()["data"]["metadata"] == {"a": "3", "b": "2"}


def test_update_refuses_metadata_that_are_no_strings(api: httpx.Client) -> None:
    found = create(api)
    answer = api.put(f"/ai/conversations/{found}", json={"metadata": {"a": 1}})
    assert answer.status_code == 422


def test_delete_answers_200_with_an_empty_body_and_then_it_is_gone(api: httpx.Client) -> None:
    found = create(api)
    answer = api.delete(f"/ai/conversations/{found}")
    assert (answer.status_code, answer.content) == (200, b"")
    for method, tail in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/messages")):
        gone = api.request(method, f"/ai/conversations/{found}{tail}")
        assert gone.status_code == 404
        assert gone.json() == {"detail": "Conversation Not Found"}


def test_the_shape_of_the_services_own_errors_is_a_switch(
    api: httpx.Client, sim: Simulator
) -> None:
    path = "/ai/conversations/00000000-0000-0000-0000-000000000000"
    sim.reconfigure(ai_error_shape="classic")
    assert api.get(path).json()["errors"][0]["code"] == "10005"
    sim.reconfigure(ai_error_shape="gateway")
    assert api.get(path).json()["error"]["message"] == "Conversation Not Found"


def test_an_id_that_is_no_uuid_is_a_422(api: httpx.Client) -> None:
    assert api.get("/ai/conversations/42").status_code == 422


def test_filters_are_joined_by_and_and_values_are_decoded_once(api: httpx.Client) -> None:
    wanted = create(api, channel="e-mail", user="a b&c+d@e.com")
    create(api, channel="sms", user="a b&c+d@e.com")
    create(api, channel="e-mail", user="someone")
    query = "metadata-%3Echannel=eq.e-mail&metadata-%3Euser=eq.a+b%26c%2Bd%40e.com"
    found = api.get(f"/ai/conversations?{query}").json()["data"]
    assert [each["id"] for each in found] == [wanted]


def test_a_plus_that_is_not_encoded_arrives_as_a_space(api: httpx.Client) -> None:
    create(api, user="+1312")
    assert api.get("/ai/conversations?metadata-%3Euser=eq.+1312").json()["data"] == []
    assert len(api.get("/ai/conversations?metadata-%3Euser=eq.%2B1312").json()["data"]) == 1


@pytest.mark.parametrize(
    "params",
    [
        {"metadata->>user": "eq.a"},
        {"metadata->user": "a"},
        {"metadata->user": "neq.a"},
        {"colour": "eq.red"},
        {"created_at": "gte.yesterday"},
        {"order": "metadata.desc"},
        {"limit": "0"},
        {"or": "created_at.gte.2025-01-01"},
    ],
)
def test_a_filter_that_is_not_documented_is_a_422(
    api: httpx.Client, params: dict[str, str]
) -> None:
    assert api.get("/ai/conversations", params=params).status_code == 422


def test_a_bad_filter_can_be_ignored_or_select_nothing(api: httpx.Client, sim: Simulator) -> None:
    found = [create(api, user="a"), create(api, user="b")]
    sim.reconfigure(bad_filter="unfiltered")
    assert listed(api, **{"metadata->>user": "eq.a"}) == found
    sim.reconfigure(bad_filter="empty")
    assert listed(api, **{"metadata->>user": "eq.a"}) == []


def test_names_are_matched_with_percent_signs(api: httpx.Client) -> None:
    wanted = create(api, "Voice of (one)")
    create(api, "a Voice")
    assert listed(api, name="like.Voice%") == [wanted]
    assert listed(api, id=f"eq.{wanted}") == [wanted]


def test_times_are_compared_and_ordered(api: httpx.Client) -> None:
    first, second, third = (create(api, n=str(n)) for n in range(3))
    moment = api.get(f"/ai/conversations/{second}").json()["data"]["created_at"]
    assert listed(api, created_at=f"gte.{moment}") == [second, third]
    assert listed(api, created_at=f"gt.{moment}") == [third]
    assert listed(api, created_at=f"lte.{moment}", order="created_at.desc") == [second, first]
    assert listed(api, last_message_at=f"lt.{moment}") == [first]
    assert listed(api, created_at=f"eq.{moment}") == [second]
    assert listed(api, created_at="gte.2025-01-01", limit="2") == [first, second]
    either = f"(created_at.lt.{moment},last_message_at.gt.{moment})"
    assert listed(api, **{"or": either}) == [first, third]


def test_the_operators_of_postgrest_are_a_switch(api: httpx.Client, sim: Simulator) -> None:
    sim.reconfigure(postgrest_operators=True)
    first, second = create(api, user="a"), create(api, user="b")
    assert listed(api, **{"metadata->user": "neq.a"}) == [second]
    assert listed(api, **{"metadata->user": "in.(a,c)"}) == [first]
    assert listed(api, **{"metadata->user": "ilike.A"}) == [first]


def test_a_list_has_a_default_and_a_largest_limit(api: httpx.Client, sim: Simulator) -> None:
    sim.reconfigure(list_default_limit=2, list_max_limit=3)
    for _ in range(4):
        create(api)
    assert len(listed(api)) == 2
    assert len(listed(api, limit="100")) == 3


def test_a_new_conversation_is_listed_only_after_a_while(api: httpx.Client, sim: Simulator) -> None:
    sim.reconfigure(list_visible_after_s=60)
    found = create(api)
    assert listed(api) == []
    sim.reconfigure(list_visible_after_s=0.01)
    assert eventually(lambda: listed(api) == [found])
