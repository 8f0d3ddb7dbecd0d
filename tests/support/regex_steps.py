"""Counts the steps of a backtracking regular expression, as CPython's own engine takes them.

Time differs between machines and runs; the number of characters that are compared does not.
"""

import re
from collections.abc import Iterator
from functools import cache
from re import _constants as c  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

_CATEGORIES = {
    c.CATEGORY_DIGIT: str.isdigit,
    c.CATEGORY_NOT_DIGIT: lambda one: not one.isdigit(),
    c.CATEGORY_SPACE: str.isspace,
    c.CATEGORY_NOT_SPACE: lambda one: not one.isspace(),
    c.CATEGORY_WORD: lambda one: one.isalnum() or one == "_",
    c.CATEGORY_NOT_WORD: lambda one: not (one.isalnum() or one == "_"),
}


_CHARACTERS = {c.LITERAL, c.NOT_LITERAL, c.ANY, c.IN}


def steps(pattern: str, text: str, *, anchored: bool) -> int:
    """The characters compared to find all matches, or for `anchored` those of one at the start."""
    walk = _Walk(text)
    parsed = _parsed(pattern)
    at = 0
    while at <= len(text):
        end = next(walk.ends(parsed, 0, at), None)
        if anchored:
            break
        at = at + 1 if end is None or end == at else end
    return walk.steps


@cache
def _parsed(pattern: str) -> Any:  # noqa: ANN401
    """The operations in plain lists: those of `re` are slow to look into."""
    return _plain(_parser.parse(pattern))


def _plain(ops: Any) -> Any:  # noqa: ANN401
    match ops:
        # How far to step back is asked of the operations themselves.
        case (c.ASSERT | c.ASSERT_NOT, _):
            return ops
        case list() | _parser.SubPattern():
            return [_plain(one) for one in ops]
        case tuple():
            return tuple(_plain(one) for one in ops)
        case _:
            return ops


class _Walk:
    def __init__(self, text: str) -> None:
        self.text = text
        self.steps = 0

    def ends(self, ops: Any, at: int, pos: int) -> Iterator[int]:  # noqa: ANN401
        """Where a match of the operations from `at` on may end, in the engine's order."""
        while at < len(ops) and ops[at][0] in _CHARACTERS:
            if not self._fits(*ops[at], pos):
                return
            at, pos = at + 1, pos + 1
        if at == len(ops):
            yield pos
            return
        op, value = ops[at]
        for end in self._one(op, value, pos):
            yield from self.ends(ops, at + 1, end)

    def _one(self, op: Any, value: Any, pos: int) -> Iterator[int]:  # noqa: ANN401, C901 # one case an operation
        match op:
            case c.SUBPATTERN:
                yield from self.ends(value[3], 0, pos)
            case c.BRANCH:
                for alternative in value[1]:
                    yield from self.ends(alternative, 0, pos)
            case c.ATOMIC_GROUP:
                yield from self._first(value, pos)
            case c.MAX_REPEAT | c.POSSESSIVE_REPEAT:
                ends = self._repeated(*value, pos)
                yield from reversed(ends) if op is c.MAX_REPEAT else ends[-1:]
            case c.ASSERT | c.ASSERT_NOT:
                direction, inner = value
                start = pos if direction > 0 else pos - inner.getwidth()[0]
                found = start >= 0 and next(self.ends(inner, 0, start), None) is not None
                if found == (op is c.ASSERT):
                    yield pos
            case c.AT if value in {c.AT_BOUNDARY, c.AT_NON_BOUNDARY}:
                sides = [
                    one.isalnum() or one == "_" for one in self.text[max(pos - 1, 0) : pos + 1]
                ]
                at_boundary = sides[0] != sides[1] if len(sides) == 2 else any(sides)
                if at_boundary == (value is c.AT_BOUNDARY):
                    yield pos
            case c.AT:
                at_end = value in {c.AT_END, c.AT_END_STRING}
                if pos == (len(self.text) if at_end else 0):
                    yield pos
            case _:
                raise NotImplementedError(op)

    def _first(self, ops: Any, pos: int) -> Iterator[int]:  # noqa: ANN401
        end = next(self.ends(ops, 0, pos), None)
        if end is not None:
            yield end

    def _repeated(self, least: int, most: int, ops: Any, pos: int) -> list[int]:  # noqa: ANN401
        """Every number of repetitions; each one in the first way that fits."""
        ends = [pos] if least == 0 else []
        for number in range(1, min(int(most), len(self.text) + 1) + 1):
            end = next(self.ends(ops, 0, pos), None)
            if end is None or end == pos:
                break
            pos = end
            if number >= least:
                ends.append(pos)
        return ends

    def _fits(self, op: Any, value: Any, pos: int) -> bool:  # noqa: ANN401
        self.steps += 1
        if pos >= len(self.text):
            return False
        one = self.text[pos]
        match op:
            case c.LITERAL:
                return ord(one) == int(value)
            case c.NOT_LITERAL:
                return ord(one) != int(value)
            case c.ANY:
                return True
        negated = value[0][0] is c.NEGATE
        return negated != any(_contains(*part, one) for part in value if part[0] is not c.NEGATE)


def _contains(op: Any, value: Any, one: str) -> bool:  # noqa: ANN401
    match op:
        case c.LITERAL:
            return ord(one) == int(value)
        case c.RANGE:
            return bool(value[0] <= ord(one) <= value[1])
        case c.CATEGORY:
            return bool(_CATEGORIES[value](one))
    raise NotImplementedError(op)


def example(pattern: str, repeats: int) -> str:
    """A text that the pattern matches: of branches the first, of what may repeat so many."""
    return "".join(_written(list(_parser.parse(pattern)), repeats))


def _written(ops: Any, repeats: int) -> Iterator[str]:  # noqa: ANN401
    for op, value in ops:
        match op:
            case c.LITERAL:
                yield chr(value)
            case c.NOT_LITERAL | c.ANY | c.IN:
                fits = (one for one in 'a0 <="\\[{-/:,;\n' if _Walk(one)._fits(op, value, 0))
                yield next(fits, "")
            case c.SUBPATTERN:
                yield from _written(value[3], repeats)
            case c.BRANCH:
                yield from _written(value[1][0], repeats)
            case c.ATOMIC_GROUP:
                yield from _written(value, repeats)
            case c.MAX_REPEAT | c.POSSESSIVE_REPEAT:
                least, most, inner = value
                yield from [*_written(inner, repeats)] * min(max(least, repeats), int(most))


def literals(pattern: str) -> str:
    """Characters that the pattern names, to build hostile texts of."""
    return "".join(dict.fromkeys(re.sub(r"\\(.)", r"\1", re.sub(r"[()?:*+|^$]", "", pattern))))
