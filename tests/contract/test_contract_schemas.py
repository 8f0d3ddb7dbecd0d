"""The schemas themselves: valid, complete, and strict enough to refuse what is wrong."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.support.contract_examples import AT, ID, VALID
from tests.support.contracts import SCHEMAS, check, faults_of

Path = tuple[str | int, ...]

# The values that are wrong in a way that a client with a mistake would send or take.
WRONG: list[tuple[str, Path, object]] = [
    ("conversation", ("id",), "42"),
    ("conversation", ("created_at",), "2026-10-21T13:07:28"),
    ("conversation", ("created_at",), "2026-10-21"),
    ("conversation", ("metadata", "channel"), 1),
    ("create_conversation", ("metadata", "ai_disabled"), True),
    ("create_conversation", ("metadata", "a-b"), "c"),
    ("create_conversation", ("metadata", "a"), "x" * 513),
    ("create_conversation", ("metadata",), {}),
    ("update_conversation", ("name",), "n"),
    ("list_conversations", ("metadata->>a",), "eq.b"),
    ("list_conversations", ("metadata->a",), "b"),
    ("list_conversations", ("limit",), "101"),
    ("list_conversations", ("limit",), "0"),
    ("list_conversations", ("page[size]",), "20"),
    ("list_messages", ("page[size]",), "101"),
    ("list_messages", ("page[number]",), "0"),
    ("message", ("id",), "1"),
    ("message", ("tool_calls", 0, "function", "arguments"), {}),
    ("add_message", ("text",), "Hi"),
    ("add_message", ("role",), "system"),
    ("add_message", ("sent_at",), "yesterday"),
    ("add_message", ("metadata", "n"), None),
    ("response_request", ("conversation",), {"id": ID}),
    ("response_request", ("conversation",), "conv_1"),
    ("response_request", ("previous_response_id",), "resp_1"),
    ("response_request", ("messages",), []),
    ("response_request", ("input",), "Hi"),
    ("response_request", ("input",), []),
    ("response_request", ("input", 0, "role"), "assistant"),
    ("response_request", ("input", 0, "content", 1, "image_url"), "file:///etc/passwd"),
    ("response_request", ("input", 1, "output"), {"a": 1}),
    ("response_request", ("tools", 0, "function"), {"name": "f"}),
    ("response_request", ("tools", 0, "name"), "get order"),
    ("response_request", ("reasoning", "effort"), "huge"),
    ("response_request", ("region",), "US"),
    ("response_request", ("stream",), False),
    ("response_request", ("stream",), "true"),
    ("response_request", ("temperature",), 3),
    ("response", ("data",), {}),
    ("response", ("status",), "done"),
    ("response", ("status",), "failed"),
    ("response", ("status",), "incomplete"),
    ("response", ("usage",), None),
    ("response", ("created_at",), AT),
    ("response", ("output", 0, "content", 0, "type"), "text"),
    ("output_item", ("role",), "user"),
    ("output_part", ("type",), "refusal"),
    ("stream_event", ("type",), "response.failed"),
    ("stream_event", ("type",), "response.done"),
    ("stream_event", ("sequence_number",), -1),
    ("model_list", ("data", 0, "created"), 1792588142),
    ("model_list", ("data", 0, "tier"), "huge"),
    ("error_entry", ("code",), 10005),
    ("error_entry", ("code",), "5"),
    ("error_classic", ("errors",), []),
    ("error_detail", ("detail",), []),
    ("error_validation", ("detail",), "no"),
    ("error_gateway", ("errors",), None),
    ("public_key", ("data", "public"), "short"),
    ("text_message", ("to", 0, "status"), "lost"),
    ("text_message", ("parts",), 11),
    ("text_message", ("from", "phone_number"), "00491701234567"),
    ("text_message", ("media", 0, "url"), "x"),
    ("webhook", ("data", "payload", "direction"), "outbound"),
    ("webhook", ("data", "event_type"), "message.lost"),
    ("webhook", ("meta", "attempt"), 7),
]

# Where any value or none will do, so that the mutations below say nothing.
FREE = {
    "response_request": {("tools", 0, "parameters")},
    "response": {("metadata",)},
    "stream_event": {("response", "metadata")},
}


def changed(document: Any, path: Path, value: object) -> Any:  # noqa: ANN401 - JSON
    copied = copy.deepcopy(document)
    at = copied
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return copied


def places(document: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:  # noqa: ANN401 - JSON
    yield path, document
    pairs = document.items() if isinstance(document, dict) else ()
    if isinstance(document, list):
        pairs = enumerate(document)
    for key, value in pairs:
        yield from places(value, (*path, key))


def is_free(name: str, path: Path) -> bool:
    return any(path[: len(free)] == free for free in FREE.get(name, ()))


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_takes_its_example(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    check(name, VALID[name])


def test_every_schema_has_an_example() -> None:
    assert VALID.keys() == SCHEMAS.keys()


@pytest.mark.parametrize(
    ("name", "path", "value"),
    WRONG,
    ids=[f"{name}-{'.'.join(map(str, path))}={str(value)[:20]}" for name, path, value in WRONG],
)
def test_a_known_mistake_is_refused(name: str, path: Path, value: object) -> None:
    assert faults_of(name, changed(VALID[name], path, value))


@pytest.mark.parametrize("name", VALID)
def test_a_value_of_another_kind_is_refused_wherever_it_stands(name: str) -> None:
    for path, _ in places(VALID[name]):
        if not is_free(name, path):
            nonsense = {"unexpected": [1.5]}
            document = changed(VALID[name], path, nonsense) if path else nonsense
            assert faults_of(name, document), path


@pytest.mark.parametrize("name", VALID)
def test_an_unknown_field_is_refused_wherever_it_stands(name: str) -> None:
    for path, value in places(VALID[name]):
        if isinstance(value, dict) and not is_free(name, path):
            document = changed(VALID[name], (*path, "Unexpected field!"), {"a": [1.5]})
            assert faults_of(name, document), path


@pytest.mark.parametrize("name", VALID)
def test_each_required_field_is_missed(name: str) -> None:
    required = SCHEMAS[name].get("required", [])
    for field in required:
        document = {key: value for key, value in VALID[name].items() if key != field}
        assert faults_of(name, document), field
    assert required or name in {"output_item", "output_part", "stream_event"}
