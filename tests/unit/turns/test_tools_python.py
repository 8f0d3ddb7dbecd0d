"""Tools that are Python functions: what the model sees of them, and what comes of a run."""

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from worker.config.agents_file import load_agents
from worker.domain.errors import SettingsError
from worker.domain.messages import ChannelAddress
from worker.domain.tools import MAX_OUTPUT_BYTES, ToolConfig, ToolRequest, ToolResult
from worker.tools.build import build_tools
from worker.tools.context import ToolContext, ToolError
from worker.tools.python import MAX_STUCK, PythonTool

ROOT = Path(__file__).parents[3]
KEY = UUID("7b2f3c1e-0d5a-5c8e-9a43-2f1f6a1b0c9d")
TIMEOUT_S = 0.2
SLACK_S = 5.0
"""A bound against hanging, no measurement: the machine may be busy."""


class Address(BaseModel):
    street: str
    zip: Annotated[str, Field(pattern=r"^\d{5}$")]


def tool(function: Callable[..., object], **changes: Any) -> PythonTool:  # noqa: ANN401 any field
    return PythonTool(ToolConfig(name="t", function="m:f", **changes), function)


def request(arguments: str = "{}") -> ToolRequest:
    who = ChannelAddress(channel="web", recipient="shop", address="visitor-1", thread="a")
    return ToolRequest(name="t", arguments=arguments, key=KEY, who=who, metadata={"order": "4711"})


def run(function: Callable[..., object], arguments: str = "{}", **changes: Any) -> ToolResult:  # noqa: ANN401 any field
    return tool(function, **changes).run(request(arguments))


# --- what the model sees -----------------------------------------------------------------------


def test_the_schema_comes_from_the_signature_and_hides_the_context() -> None:
    def book(
        number: Annotated[int, Field(description="How many.", gt=0)],
        context: ToolContext,
        size: Literal["s", "l"] = "s",
        note: str | None = None,
        *,
        to: Address,
    ) -> None:
        """Book it."""

    item = tool(book).item

    assert item["description"] == "Book it."
    assert item["parameters"] == {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "number": {"type": "integer", "description": "How many.", "exclusiveMinimum": 0},
            "size": {"type": "string", "enum": ["s", "l"], "default": "s"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            "to": {"$ref": "#/$defs/Address"},
        },
        "required": ["number", "to"],
        "$defs": {
            "Address": {
                "title": "Address",
                "type": "object",
                "properties": {
                    "street": {"type": "string"},
                    "zip": {"type": "string", "pattern": "^\\d{5}$"},
                },
                "required": ["street", "zip"],
            }
        },
    }


def test_the_configuration_comes_before_docstring_and_signature() -> None:
    def book(number: int) -> None:
        """Book it."""

    schema = {"type": "object", "properties": {"number": {"type": "integer", "maximum": 3}}}
    item = tool(book, description="Book a table.", parameters=schema).item

    assert item["description"] == "Book a table."
    assert item["parameters"] == schema


def test_a_parameter_may_be_called_like_something_of_pydantics() -> None:
    def odd(copy: str, json: int, schema: str = "x") -> str:
        return f"{copy} {json} {schema}"

    assert run(odd, '{"copy": "a", "json": 1}').output == "a 1 x"


def no_annotation(number) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    pass


async def asynchronous() -> None:
    pass


def anything(*args: int) -> None:
    pass


def more(**kwargs: int) -> None:
    pass


def by_position(number: int, /) -> None:
    pass


def strange(lock: threading.Thread) -> None:
    pass


def private(_number: int) -> None:
    pass


def nowhere(number: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
    pass


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (no_annotation, "parameter 'number' has no type annotation: add one"),
        (asynchronous, "the function is async: give a plain one"),
        (anything, "parameter 'args' cannot be given by name"),
        (more, "parameter 'kwargs' cannot be given by name"),
        (by_position, "parameter 'number' cannot be given by name"),
        (strange, "its parameters cannot be described as JSON"),
        (private, "parameter '_number' has a name that pydantic hides: rename it"),
        (nowhere, "its annotations cannot be read"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused_with_the_mend(
    function: Callable[..., object], fault: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(f"function: {fault}")):
        tool(function)


# --- arguments ---------------------------------------------------------------------------------


def test_arguments_arrive_as_the_types_of_the_signature() -> None:
    def show(day: date, to: Address, number: int = 2) -> str:
        return f"{day.year} {type(to).__name__} {to.zip} {number}"

    given = '{"day": "2026-11-22", "to": {"street": "Elm", "zip": "60601"}}'
    assert run(show, given) == ToolResult(state="done", output="2026 Address 60601 2")


@pytest.mark.parametrize("arguments", ["", "  ", "{}"])
def test_no_arguments_are_no_arguments_however_they_are_written(arguments: str) -> None:
    assert run(lambda: "ran", arguments).output == "ran"


def test_the_context_says_whom_it_runs_for_and_under_which_key() -> None:
    seen: list[ToolContext] = []

    def look(context: ToolContext) -> None:
        seen.append(context)

    assert run(look).state == "done"

    assert seen == [
        ToolContext(
            idempotency_key=str(KEY),
            channel="web",
            recipient="shop",
            user="visitor-1",
            thread="a",
            metadata={"order": "4711"},
        )
    ]
    with pytest.raises(FrozenInstanceError):
        seen[0].user = "visitor-2"  # type: ignore[misc]


def test_the_model_cannot_choose_the_context() -> None:
    def look(context: ToolContext) -> str:
        return context.user

    result = run(look, '{"context": {"user": "visitor-2"}}')

    assert result.state == "failed"
    assert result.output == ("error: the tool was not run: context: Extra inputs are not permitted")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("{", "the arguments are not valid JSON"),
        ('{"number": NaN}', "number: Input should be a finite number"),
        ("[1]", "arguments: Input should be an object"),
        ('{"number": "SECRET"}', "number: Input should be a valid integer"),
        ('{"numbr": 1}', "number: Field required; to: Field required; numbr: Extra inputs"),
        ('{"number": 1, "to": {"street": "Elm", "zip": "SECRET"}}', "to.zip: String should match"),
        ('{"number": 1, "to": "SECRET"}', "to: Input should be an object"),
        ('{"number": 1, "day": "SECRET"}', "day: not valid (date_from_datetime_parsing)"),
        ('{"number": "\ud800"}', "error: the tool"),
    ],
)
def test_arguments_that_do_not_fit_name_the_fields_and_quote_nothing(
    arguments: str, told: str
) -> None:
    ran = []

    def book(number: int, to: Address, day: date | None = None) -> None:
        ran.append(number)

    result = run(book, arguments)

    assert result.state == "failed"
    assert told in result.output
    assert "SECRET" not in result.output
    assert "Traceback" not in result.output
    assert ran == []


def test_of_many_faults_only_the_first_are_told() -> None:
    faults = ", ".join(f'"unknown_{number}": 1' for number in range(500))
    assert run(lambda: None, f"{{{faults}}}").output.count("Extra inputs") == 10


# --- results -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "output"),
    [
        ("plain", "plain"),
        ("", ""),
        (None, "null"),
        ({"a": [1, 2.5, True, None]}, '{"a":[1,2.5,true,null]}'),
        (Address(street="Elm", zip="60601"), '{"street":"Elm","zip":"60601"}'),
        (date(2026, 11, 22), '"2026-11-22"'),
        ("a\0b", "ab"),
        ("a\ud800b", "ab"),
    ],
)
def test_text_is_told_as_it_is_and_everything_else_as_json(value: object, output: str) -> None:
    assert run(lambda: value) == ToolResult(state="done", output=output)


def circle() -> list[object]:
    """A list that holds itself."""
    found: list[object] = []
    found.append(found)
    return found


@pytest.mark.parametrize("value", [object(), b"\xff", {"a": "\ud800"}, circle()])
def test_a_result_that_is_no_json_fails(value: object) -> None:
    result = run(lambda: value)
    assert result.state == "failed"
    assert result.output == "error: the tool ran, but its result cannot be shown"


def test_a_long_output_is_cut_between_characters_and_says_so() -> None:
    result = run(lambda: "x" + "ü" * MAX_OUTPUT_BYTES)

    size_bytes = len(result.output.encode())
    assert MAX_OUTPUT_BYTES - 1 <= size_bytes <= MAX_OUTPUT_BYTES
    assert result.output.endswith("ü\n[cut: the output was longer]")
    assert run(lambda: "x" * MAX_OUTPUT_BYTES).output == "x" * MAX_OUTPUT_BYTES


def test_an_exception_is_named_by_its_type_alone() -> None:
    def fail() -> None:
        raise LookupError("SECRET")

    assert run(fail) == ToolResult(
        state="failed", output="error: the tool failed", reason="LookupError"
    )


def test_a_tool_that_ends_the_interpreter_only_fails() -> None:
    assert run(lambda: sys.exit(1)).reason == "SystemExit"


def test_a_tool_error_speaks_to_the_model() -> None:
    def refuse() -> None:
        raise ToolError("There is no order of\0 that number.")

    assert run(refuse) == ToolResult(
        state="failed", output="There is no order of that number.", reason="ToolError"
    )


# --- time --------------------------------------------------------------------------------------


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Hanging tools wait for it; opened at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def test_a_tool_that_does_not_end_in_time_is_unknown_and_goes_on(gate: threading.Event) -> None:
    went_on = threading.Event()

    def hang() -> None:
        gate.wait(30)
        went_on.set()

    started = time.monotonic()
    result = run(hang, timeout_s=TIMEOUT_S)

    assert TIMEOUT_S <= time.monotonic() - started < TIMEOUT_S + SLACK_S
    assert (result.state, result.reason) == ("unknown", "timeout")
    assert "may or may not have happened" in result.output
    gate.set()
    assert went_on.wait(SLACK_S)


def test_too_many_stuck_runs_keep_a_tool_from_starting_until_one_ends(
    gate: threading.Event,
) -> None:
    starts = []

    def hang() -> str:
        starts.append(1)
        gate.wait(30)
        return "ended"

    hanging = tool(hang, timeout_s=0.01)
    states = [hanging.run(request()).state for _ in range(MAX_STUCK)]
    assert states == ["unknown"] * MAX_STUCK

    busy = hanging.run(request())
    assert (busy.state, busy.reason) == ("failed", "busy")
    assert len(starts) == MAX_STUCK
    assert run(lambda: "another tool").output == "another tool"

    gate.set()
    deadline = time.monotonic() + SLACK_S
    while hanging.run(request()).reason == "busy":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while hanging._stuck:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_calls_of_one_tool_run_side_by_side() -> None:
    together = threading.Barrier(4)
    meeting = tool(lambda: str(together.wait(SLACK_S)))
    results: list[ToolResult] = []
    threads = [
        threading.Thread(target=lambda: results.append(meeting.run(request()))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.output for one in results} == {"0", "1", "2", "3"}


# --- building ----------------------------------------------------------------------------------


def build(**fields: Any) -> None:  # noqa: ANN401 any field
    config = ToolConfig(name="t", **fields)
    build_tools({"t": config}, ENVIRON)


NOT_BASE64 = "!!!!" + "c2hv" * 10
ENVIRON = {"SHORT": "c2hvcnQ=", "TEXT": NOT_BASE64, "EMPTY": "", "BLANK": " \n"}
ENVIRON |= {"TWO_LINES": "c2hv" * 8 + "\n" + "c2hv" * 8}
URL: dict[str, Any] = {"url": "http://h/", "secret_env": "SHORT", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"function": "no.such:f"}, "function: no.such cannot be imported (ModuleNotFoundError"),
        ({"function": "json:no_such"}, "function: json has no function no_such: give module:"),
        ({"function": "json:__doc__"}, "function: json has no function __doc__"),
        ({"function": "json:dumps"}, "function: parameter 'obj' has no type annotation: add one"),
        (
            {"function": "json:dumps", "parameters": {"type": "array"}},
            'parameters: the schema needs type = "object"',
        ),
        ({"function": "json:dumps", "parameters": {}}, "parameters: the schema needs type"),
        (
            URL | {"parameters": {"type": "object", "properties": ["a"]}},
            "parameters: properties must be a table",
        ),
        (
            URL | {"parameters": {"type": "object", "required": ["a"]}},
            "parameters: required must list names of properties",
        ),
        (
            URL | {"parameters": {"type": "object", "default": date(2026, 1, 1)}},
            "parameters: not JSON; put dates and times into quotes",
        ),
        (URL | {"url": "ftp://h/"}, "url: give http(s)://host[:port]/path"),
        (URL | {"url": "http://"}, "url: give http(s)://host[:port]/path"),
        (URL | {"url": "http://h:PASSWORD/"}, "url: give http(s)://host[:port]/path"),
        (URL | {"url": "http://user:PASSWORD@h/"}, "url: no user or password in it"),
        (URL | {"secret_env": "UNSET"}, "secret_env: UNSET is not set: set it"),
        (URL | {"secret_env": "EMPTY"}, "secret_env: EMPTY is not set: set it"),
        (URL | {"secret_env": "BLANK"}, "secret_env: BLANK is not set: set it"),
        (URL | {"secret_env": "TWO_LINES"}, "secret_env: TWO_LINES: the key is not base64"),
        (URL | {"secret_env": "TEXT"}, "secret_env: TEXT: the key is not base64: give whsec_"),
        (URL, "secret_env: SHORT: the key has 5 bytes: give whsec_ and the base64 of at least 24"),
        (
            URL | {"secret_env": None, "secret_file": Path("/no/such/file")},
            "secret_file: /no/such/file cannot be read (FileNotFoundError)",
        ),
    ],
)
def test_a_wrong_configuration_is_one_line_with_tool_fault_and_mend(
    fields: dict[str, Any], fault: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        build(**fields)
    line = str(caught.value)
    assert line.startswith(f"AGENTS_FILE: tools.t: {fault}")
    assert "\n" not in line
    for secret in ("PASSWORD", "c2hvcnQ", NOT_BASE64):
        assert secret not in line


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ('[tools.t]\ndescription = "x"', "give either function or url"),
        ('[tools.t]\nfunction = "a:b"\nurl = "http://h/"', "give either function or url"),
        ('[tools.t]\nurl = "http://h/"\nparameters.type = "object"', "to sign with"),
        ('[tools.t]\nurl = "http://h/"\nsecret_env = "SHORT"', "a url needs parameters"),
        *(
            (f"[agents.a.options]\n{name} = 1", f"options may not hold \\['{name}'\\]")
            for name in ("model", "input", "conversation", "instructions", "stream", "tools")
        ),
        *((f"[agents.a]\nstream_idle_s = {wrong}", "stream_idle_s") for wrong in (0, -1.0, "nan")),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(
    tmp_path: Path, lines: str, fault: str
) -> None:
    file = tmp_path / "agents.toml"
    file.write_text(lines)
    with pytest.raises(SettingsError, match=fault):
        load_agents(file)


def test_a_function_is_found_by_its_path_and_takes_over_what_is_configured() -> None:
    config = ToolConfig(
        name="order_status",
        function="examples.tools.order_tools:order_status",
        timeout_s=3.0,
        honours_key=True,
    )
    built = build_tools({"order_status": config}, {})["order_status"]

    assert isinstance(built, PythonTool)
    assert (built.timeout_s, built.takes_key) == (3.0, True)
    assert built.item["description"] == "Return the status of an order of this customer."
    mine = built.run(request('{"number": "4711"}'))
    assert mine.output == '{"number":"4711","status":"shipped"}'
    theirs = built.run(replace(request(), arguments='{"number": "4712"}'))
    assert theirs.output == "This customer has no order of that number."


# --- the page ----------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "how-to" / "give-an-agent-tools.md").read_text()


def test_the_function_that_the_page_shows_is_a_tool() -> None:
    (block,) = re.findall(r"(?ms)^```py\n(.*?)^```", PAGE)
    names: dict[str, Any] = {"__name__": "shop.tools"}
    exec(block, names)  # noqa: S102 the page's own code

    item = tool(names["order_status"]).item

    assert item["parameters"]["required"] == ["number"]
    assert run(names["order_status"], '{"number": "4711"}').state == "done"


def test_the_page_tells_the_limits_as_they_are() -> None:
    assert f"{MAX_OUTPUT_BYTES // 1024} KiB" in PAGE
    assert f"{MAX_STUCK} such runs" in PAGE
