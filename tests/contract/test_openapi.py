"""Requests and answers against Telnyx's OpenAPI description, where a copy lies beside the checkout.

Without one there are no tests here; the project's own contract is in `schemas/`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.support.databases import ROOT
from tests.support.tour import tour
from worker.sandbox.simulator import Simulator, SimulatorConfig, running_simulator
from worker.sandbox.simulator.record.events import RequestReceived

FILES = sorted(ROOT.parent.glob("shared/telnyx-openapi.yaml"))
__test__ = bool(FILES)  # else pytest would report tests that have nothing to test with

NOT_SIMULATED = re.compile(r".*/\{(insight|group)_id\}.*|POST .*/(insights|insight-groups)")
"""The insights are never anything but empty lists."""
EVERYWHERE = {401, 404, 409, 413, 429, 500, 503}
"""Statuses that any operation may answer with, whether it says so or not."""


@pytest.fixture(scope="module")
def api() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load(FILES[0].read_text(), Loader=yaml.CSafeLoader)
    return loaded


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with running_simulator(SimulatorConfig(list_visible_after_s=0)) as running:
        yield running


def operation(api: Mapping[str, Any], method: str, path: str) -> tuple[str, dict[str, Any]]:
    """Find what describes a request, and its name; templates with parameters come last."""
    path = urlsplit(path).path.removeprefix("/v2")
    for template, operations in sorted(api["paths"].items(), key=lambda one: "{" in one[0]):
        pattern = re.sub(r"\{\w+\}", "[^/]+", template)
        if re.fullmatch(pattern, path) and method.lower() in operations:
            return f"{method} {template}", operations[method.lower()]
    raise AssertionError(f"not described: {method} {path}")


def fits(schema: Mapping[str, Any], document: object) -> None:
    checker = Draft202012Validator.FORMAT_CHECKER
    faults = Draft202012Validator(schema, format_checker=checker).iter_errors(document)
    told = [f"{each.json_path}: {each.message}" for each in faults]
    assert told == [], document


def check_request(described: Mapping[str, Any], path: str, body: object, raw_bytes: int) -> None:
    """Check the query's parameters, each one's text read as its type, and the body."""
    known = {
        each["name"]: each for each in described.get("parameters", ()) if each["in"] == "query"
    }
    for name, value in parse_qsl(urlsplit(path).query, strict_parsing=True) if "?" in path else ():
        schema = known[name]["schema"] if name in known else {"type": "string"}
        assert name in known or name.startswith("metadata->"), name
        fits(schema, int(value) if schema.get("type") == "integer" else value)
    if "requestBody" in described:
        fits(described["requestBody"]["content"]["application/json"]["schema"], body)
    else:
        assert raw_bytes == 0


def check_answer(described: Mapping[str, Any], answer: httpx.Response) -> None:
    """Check status and body; a stream and an empty body have no schema."""
    stated = described["responses"].get(str(answer.status_code))
    assert stated is not None or answer.status_code in EVERYWHERE, answer.status_code
    content = (stated or {}).get("content", {}).get("application/json")
    if content and answer.headers.get("content-type", "").startswith("application/json"):
        fits(content["schema"], with_texts(answer.json()))


def with_texts(document: dict[str, Any]) -> dict[str, Any]:
    """Fill in null texts: the prose says "can be null for tool calls", the schema forgets it."""
    rows = document.get("data")
    for row in rows if isinstance(rows, list) else ():
        if "text" in row and row["text"] is None:
            row["text"] = ""
    return document


def test_every_schema_of_the_description_is_one(api: dict[str, Any]) -> None:
    for operations in api["paths"].values():
        for described in operations.values():
            for stated in described["responses"].values():
                for content in stated.get("content", {}).values():
                    Draft202012Validator.check_schema(content.get("schema", {}))


def test_what_the_service_sends_is_described(api: dict[str, Any], sim: Simulator) -> None:
    tour(sim)
    sent = [entry.event for entry in sim.log() if isinstance(entry.event, RequestReceived)]
    assert len(sent) > 10
    for each in sent:
        _, described = operation(api, each.method, each.path)
        check_request(described, each.path, each.body, each.body_bytes)


def test_what_the_simulator_answers_is_described(api: dict[str, Any], sim: Simulator) -> None:
    checked: list[tuple[str, int]] = []

    def check(answer: httpx.Response) -> None:
        answer.read()
        request = answer.request
        path = request.url.raw_path.decode()
        name, described = operation(api, request.method, path)
        if answer.is_success:
            body = json.loads(request.content) if request.content else None
            check_request(described, path, body, len(request.content))
        check_answer(described, answer)
        checked.append((name, answer.status_code))

    headers = {"authorization": f"Bearer {sim.api_key}"}
    with httpx.Client(
        base_url=sim.base_url, headers=headers, event_hooks={"response": [check]}
    ) as client:
        play(client)
    described = {
        f"{method.upper()} {path}" for path, methods in api["paths"].items() for method in methods
    }
    wanted = {name for name in described if not NOT_SIMULATED.fullmatch(name)}
    assert {name for name, status in checked if status == 200} == wanted
    assert {status for _, status in checked} == {200, 401, 404, 422}


def play(client: httpx.Client) -> None:
    """Ask for everything there is, and for what there is not."""
    conversations = "/ai/conversations"
    made = client.post(conversations, json={"name": "n", "metadata": {"a": "b"}}).json()["id"]
    client.post(conversations, json={"metadata": {"a": 1}})
    client.get(conversations, params={"metadata->a": "eq.b", "limit": 5, "order": "name.asc"})
    one = f"{conversations}/{made}"
    client.get(one)
    client.get(one, headers={"authorization": "Bearer KEY-other"})
    client.put(one, json={"metadata": {"a": "c"}})
    client.post(f"{one}/message", json={"role": "user", "content": "Hi"})
    for text in ("Hello", "tool:f {}"):
        asked = {"model": "zai-org/GLM-5.3-Flash", "input": text, "conversation": made}
        client.post("/ai/openai/responses", json={**asked, "tools": [{"name": "f"}]})
    client.get(f"{one}/messages", params={"page[size]": 1, "page[number]": 2})
    client.get(f"{one}/messages", params={"page[size]": 100})
    for path in ("insights", "insight-groups", "conversation-insights/aggregates"):
        client.get(f"{conversations}/{path}")
    client.get(f"{one}/conversations-insights")
    client.get("/ai/openai/models")
    client.post("/messages", json={"from": "+13125550100", "to": "+13125550001", "text": "Hi"})
    client.delete(one)
    client.get(one)
