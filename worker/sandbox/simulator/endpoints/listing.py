"""The filters of the conversation list: `field=operator.value`, joined by AND."""

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from worker.sandbox.simulator.behaviour.config import SimulatorConfig
from worker.sandbox.simulator.record.values import Conversation

Query: TypeAlias = Sequence[tuple[str, str]]
"""Decoded pairs of a query string."""
Test: TypeAlias = Callable[[Conversation], bool]

_TEXTS = ("id", "name")
_DATES = ("created_at", "last_message_at")
_UNQUOTED_COMMA = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')
_EXTRA = ("neq", "in", "is", "ilike")
_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "is": operator.eq,
    "neq": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


class BadFilterError(ValueError):
    """A filter in a syntax that Telnyx does not document. `field` names its parameter."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def listed(
    conversations: Iterable[Conversation], query: Query, config: SimulatorConfig
) -> tuple[Conversation, ...]:
    """Return the rows that the query selects, in its order; BadFilterError if it is malformed.

    With `bad_filter` set to something else than `error`, an unknown filter selects nothing
    or is ignored.
    """
    tests: list[Test] = []
    for name, value in query:
        if name in {"order", "limit"}:
            continue
        try:
            tests.append(_either(value, config) if name == "or" else _test(name, value, config))
        except BadFilterError:
            if config.bad_filter == "error":
                raise
            if config.bad_filter == "empty":
                return ()
    found = [each for each in conversations if all(test(each) for test in tests)]
    asked = dict(query)
    return tuple(_ordered(found, asked.get("order"))[: _limit(asked.get("limit"), config)])


def _test(name: str, value: str, config: SimulatorConfig) -> Test:
    verb, dot, operand = value.partition(".")
    known = ("eq", "gt", "gte", "lt", "lte", "like")
    if not dot or verb not in known + (_EXTRA if config.postgrest_operators else ()):
        raise BadFilterError(name, f"operator not supported: {value}")
    if name in _DATES:
        return _date_test(name, verb, operand)
    if name in _TEXTS:
        return lambda each: _holds(verb, getattr(each, name), operand, config)
    key = name.removeprefix("metadata->")
    if key == name or key.startswith(">") or not key:
        raise BadFilterError(name, "column not found")
    return lambda each: key in each.metadata and _holds(verb, each.metadata[key], operand, config)


def _either(value: str, config: SimulatorConfig) -> Test:
    if not (value.startswith("(") and value.endswith(")")):
        raise BadFilterError("or", "parentheses expected")
    tests: list[Test] = []
    for part in _parts(value[1:-1], config):
        name, _, condition = part.partition(".")
        tests.append(_test(name, condition, config))
    return lambda each: any(test(each) for test in tests)


def _parts(text: str, config: SimulatorConfig) -> list[str]:
    """Split at commas; with `postgrest_quotes`, not at those between double quotes."""
    if not config.postgrest_quotes:
        return text.split(",")
    return [part.replace('"', "") for part in _UNQUOTED_COMMA.split(text)]


def _holds(verb: str, actual: str, operand: str, config: SimulatorConfig) -> bool:
    if verb in {"like", "ilike"}:
        flags = re.DOTALL | (re.IGNORECASE if verb == "ilike" else 0)
        return re.fullmatch(_pattern(operand), actual, flags) is not None
    if verb == "in":
        return actual in _parts(operand.strip("()"), config)
    return _COMPARED[verb](actual, operand)


def _pattern(like: str) -> str:
    wild = {"%": ".*", "*": ".*", "_": "."}
    return "".join(wild.get(letter, re.escape(letter)) for letter in like)


def _date_test(name: str, verb: str, operand: str) -> Test:
    try:
        moment = datetime.fromisoformat(operand)
    except ValueError as error:
        raise BadFilterError(name, f"no date: {operand}") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    compare = _COMPARED.get(verb)
    if compare is None:
        raise BadFilterError(name, f"operator not supported for a date: {verb}")
    return lambda each: compare(getattr(each, name), moment)


def _ordered(found: list[Conversation], order: str | None) -> list[Conversation]:
    for term in reversed(order.split(",") if order else []):
        name, _, direction = term.partition(".")
        if name not in _DATES + _TEXTS or direction not in {"", "asc", "desc"}:
            raise BadFilterError("order", f"cannot order by {term}")

        def key(each: Conversation, name: str = name) -> datetime | str:
            value: datetime | str = getattr(each, name)
            return value

        found = sorted(found, key=key, reverse=direction == "desc")
    return found


def _limit(asked: str | None, config: SimulatorConfig) -> int:
    if asked is None:
        return config.list_default_limit
    if not asked.isdecimal() or int(asked) < 1:
        raise BadFilterError("limit", "ensure this value is greater than or equal to 1")
    return min(int(asked), config.list_max_limit)
