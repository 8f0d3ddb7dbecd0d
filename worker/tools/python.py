"""A tool that is a Python function.

    arguments fit the signature? ── no ──▶ failed, with the field for the model
       └── yes ──▶ runs in a thread ──▶ returns ──▶ done
                                   ├──▶ raises ──▶ failed
                                   └──▶ not within timeout_s ──▶ unknown; the thread goes on

Of an exception only the type's name leaves this module: its text may hold what a person wrote.
"""

import inspect
import threading
import typing
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails, to_json

from worker.domain.tools import ToolConfig, ToolRequest, ToolResult, tool_item
from worker.tools.context import ToolContext, ToolError
from worker.tools.tool import BAD_ARGUMENTS, done, failed, unknown

MAX_STUCK = 8
"""Threads of one tool that were left behind; beyond these nothing new is started.

A thread cannot be cancelled. Those with a caller are as many as there are callers; only the stuck
ones could grow without end.
"""


class PythonTool:
    """One function of the operator's. Safe to share, as far as the function is."""

    def __init__(self, config: ToolConfig, function: Callable[..., object]) -> None:
        """Read the signature once. ValueError: it cannot be a tool."""
        self._context_names, fields = _parameters(function)
        self._arguments, schema = _model_of(fields)
        self._function = function
        self._lock = threading.Lock()
        self._stuck: set[Future[ToolResult]] = set()
        description = config.description or inspect.getdoc(function) or ""
        self.item = tool_item(config.name, description, config.parameters or schema)
        self._name = f"tool {config.name}"
        self.takes_key = config.honours_key
        self.timeout_s = config.timeout_s

    def run(self, request: ToolRequest) -> ToolResult:
        """Run it in a thread of its own, whatever it does."""
        ended: Future[ToolResult] = Future()
        # Not a ThreadPoolExecutor: the interpreter waits for its threads at the end, and a stuck
        # one would keep the process from ending.
        thread = threading.Thread(
            target=self._carry, args=(ended, request), name=self._name, daemon=True
        )
        try:
            with self._lock:
                busy = len(self._stuck) >= MAX_STUCK
            if not busy:
                thread.start()
        except RuntimeError:  # the system has no more threads
            busy = True
        if busy:
            return failed("error: the tool is busy; not done", reason="busy")
        wait([ended], self.timeout_s)
        with self._lock:
            if ended.done():
                return ended.result()
            # The thread goes on and may still do the thing.
            self._stuck.add(ended)
        return unknown(reason="timeout")

    def _carry(self, ended: Future[ToolResult], request: ToolRequest) -> None:
        result = self._outcome(request)
        with self._lock:
            # Under the same lock as the caller's look: it sees the result, or counts the thread.
            self._stuck.discard(ended)
            ended.set_result(result)

    def _outcome(self, request: ToolRequest) -> ToolResult:
        context = ToolContext(
            idempotency_key=str(request.key),
            **request.who.as_producers_name_it(),
            # A copy: a function may change its own.
            metadata=dict(request.metadata),
        )
        try:
            given = _bind(self._arguments, request.arguments)
            value = self._function(**given, **dict.fromkeys(self._context_names, context))
        except ArgumentsError as error:
            return failed(f"error: the tool was not run: {error}", reason=BAD_ARGUMENTS)
        except ToolError as error:
            return failed(str(error), reason="ToolError")
        except BaseException as error:  # noqa: BLE001 even sys.exit() must end the tool alone
            return failed("error: the tool failed", reason=type(error).__name__)
        return _shown(value)


def _shown(value: object) -> ToolResult:
    if isinstance(value, str):
        return done(value)
    try:
        return done(to_json(value).decode())
    except BaseException as error:  # noqa: BLE001 a value's own serializer may raise anything
        reason = f"result: {type(error).__name__}"
        return failed("error: the tool ran, but its result cannot be shown", reason=reason)


_SHOWN_FAULTS = 10


class ArgumentsError(Exception):
    """The model's arguments do not fit; `str()` is for the model: fields and their faults."""


class _WithoutTitles(GenerateJsonSchema):
    """Titles only repeat the names, and every request pays for them."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 pydantic's signature
        return False


def _parameters(function: Callable[..., object]) -> tuple[list[str], dict[str, Any]]:
    """Return the parameters for the context, and those for the model as pydantic defines fields.

    ValueError: the function cannot be a tool; the text names the fault and the fix.
    """
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ValueError("function: the function is async: give a plain one, it runs in a thread")
    fields: dict[str, Any] = {}
    context: list[str] = []
    hints = _hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            fix = "cannot be given by name: use a plain parameter"
            raise ValueError(f"function: parameter {name!r} {fix}")
        if name not in hints:
            raise ValueError(f"function: parameter {name!r} has no type annotation: add one")
        if hints[name] is ToolContext:
            context.append(name)
        else:
            required = parameter.default is parameter.empty
            fields[name] = (hints[name], ... if required else parameter.default)
    return context, fields


def _bind(model: type[BaseModel], arguments: str) -> dict[str, object]:
    """Read JSON text (blank = no arguments) into keyword arguments. Raises ArgumentsError."""
    try:
        return dict(model.model_validate_json(arguments.strip() or "{}"))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
    # Unchained: pydantic's error holds the model's input.
    raise ArgumentsError("; ".join(_describe(fault) for fault in faults[:_SHOWN_FAULTS]))


def _hints(function: Callable[..., object]) -> dict[str, Any]:
    try:
        # Under `from __future__ import annotations` the signature itself has only texts.
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:  # annotations are code, and may raise anything
        raise ValueError(
            f"function: its annotations cannot be read ({type(error).__name__}): "
            "every name in them must exist in its module"
        ) from error


def _model_of(fields: Mapping[str, Any]) -> tuple[type[BaseModel], dict[str, object]]:
    try:
        with warnings.catch_warnings(action="ignore"):  # a parameter may be called `copy` or `json`
            # An argument that the model invented is reported to it, not dropped.
            model: type[BaseModel] = create_model(
                "Arguments", __config__=ConfigDict(extra="forbid"), **fields
            )
            schema = model.model_json_schema(schema_generator=_WithoutTitles)
    except Exception as error:  # pydantic raises PydanticUserError, NameError, TypeError and others
        reason = str(error).splitlines()[0] if str(error) else ""
        raise ValueError(
            "function: its parameters cannot be described as JSON"
            f" ({type(error).__name__}: {reason}): use types and names that pydantic takes"
        ) from error
    if dropped := sorted(fields.keys() - model.model_fields.keys()):
        # pydantic keeps names with a leading underscore to itself, silently.
        raise ValueError(
            f"function: parameter {dropped[0]!r} has a name that pydantic hides: rename it"
        )
    schema.pop("title", None)
    return model, schema


def _describe(fault: ErrorDetails) -> str:
    """Describe one fault without quoting: a text with a cause in it may hold the input."""
    place = ".".join(str(part) for part in fault["loc"]) or "arguments"
    if fault["type"] == "json_invalid":
        return "the arguments are not valid JSON"
    if {"error", "tag"} & fault.get("ctx", {}).keys():
        return f"{place}: not valid ({fault['type']})"
    return f"{place}: {fault['msg']}"
