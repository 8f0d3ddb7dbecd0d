"""A function's signature for the model: makes the JSON Schema, reads the arguments."""

import inspect
import typing
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails

from worker.tools.context import ToolContext

_SHOWN_FAULTS = 10


class ArgumentsError(Exception):
    """The model's arguments do not fit; `str()` is for the model: fields and their faults."""


class _WithoutTitles(GenerateJsonSchema):
    """Titles only repeat the names, and every request pays for them."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 pydantic's signature
        return False


class Signature:
    """The parameters of one function: those for the model, and those for the context."""

    def __init__(self, function: Callable[..., object]) -> None:
        """Read it once. ValueError: it cannot be a tool; the text names the fault and the fix."""
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise ValueError(
                "function: the function is async: give a plain one, it runs in a thread"
            )
        fields: dict[str, Any] = {}
        context: list[str] = []
        hints = _hints(function)
        for name, parameter in inspect.signature(function).parameters.items():
            _check(parameter, hints)
            if hints[name] is ToolContext:
                context.append(name)
            else:
                required = parameter.default is parameter.empty
                fields[name] = (hints[name], ... if required else parameter.default)
        self._context_names = tuple(context)
        self._model, self.schema = _model_of(fields)

    def bind(self, arguments: str, context: ToolContext) -> dict[str, object]:
        """Read the model's JSON text (blank = no arguments) into keyword arguments.

        Raises ArgumentsError.
        """
        try:
            given = self._model.model_validate_json(arguments.strip() or "{}")
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
        else:
            return {**dict(given), **dict.fromkeys(self._context_names, context)}
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


def _check(parameter: inspect.Parameter, hints: Mapping[str, object]) -> None:
    if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
        raise ValueError(
            f"function: parameter {parameter.name!r} cannot be given by name: use a plain parameter"
        )
    if parameter.name not in hints:
        raise ValueError(f"function: parameter {parameter.name!r} has no type annotation: add one")


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
