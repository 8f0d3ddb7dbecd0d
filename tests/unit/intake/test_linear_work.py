"""Work on foreign bytes grows with their length alone: counted in steps, not in time."""

import ast
import gc
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from itertools import product
from pathlib import Path
from time import thread_time
from types import FrameType
from typing import Any

import pytest

import message_worker_client
import worker
from message_worker_client.envelope import EnvelopeError, parse_envelope, read_envelope
from message_worker_client.envelope.strict_json import JsonRefusedError, check_shape, read_json
from message_worker_client.envelope.wire import MAX_DEPTH
from tests.support.regex_steps import example, literals, steps
from worker.domain.messages import ChannelAddress
from worker.domain.routing import ChannelPolicy
from worker.handlers.intake.route import unknown_fields
from worker.handlers.privacy.ownership import Ownership
from worker.queue.gate.entry import EntryRefusedError, read_message

ROOTS = [Path(one.__file__).parent for one in (worker, message_worker_client)]
ANCHORED = {"match", "fullmatch"}
GROWS_AT_MOST = 3
"""Twice the input, at most three times the work."""


def patterns() -> Iterator[tuple[str, str, bool]]:
    """Each regular expression of service and client: place, pattern, whether it only matches at the
    start.

    The simulator reads nothing of a stranger's.
    """
    sources = {path: path.read_text() for root in ROOTS for path in sorted(root.rglob("*.py"))}
    everything = "\n".join(sources.values())
    for path, source in sources.items():
        (root,) = (one for one in ROOTS if path.is_relative_to(one))
        names = named(source)
        module = ".".join((root.name, *path.relative_to(root).with_suffix("").parts))
        for node in ast.walk(ast.parse(source if "sandbox" not in path.parts else "")):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=how)) if (
                    how != "escape"
                ):
                    place = f"{path.relative_to(root.parent)}:{node.lineno}"
                    for pattern in patterns_of(node, vars(import_module(module))):
                        name = names.get(node.lineno, "")
                        used = source if name.startswith("_") or not name else everything
                        yield place, pattern, is_anchored(used, how, name)


def patterns_of(call: ast.Call, names: Mapping[str, Any]) -> list[str]:
    """Return the pattern of a call of `re`; of one in a loop, all that the module has made."""
    try:
        found = [eval(ast.unparse(call.args[0]), {"one": "ann", **names})]  # noqa: S307 - our source
    except NameError:
        found = [one.pattern for one in compiled_in(names.values())]
        assert found, ast.unparse(call)
    return [one.decode("latin-1") if isinstance(one, bytes) else one for one in found]


def compiled_in(values: Iterable[object]) -> Iterator[re.Pattern[Any]]:
    for value in values:
        if isinstance(value, re.Pattern):
            yield value
        elif isinstance(value, tuple):
            yield from compiled_in(value)


def named(source: str) -> dict[int, str]:
    """The lines at which a module gives a name to one call, with the names."""
    found = {}
    for node in ast.parse(source).body:
        match node:
            case (
                ast.AnnAssign(target=ast.Name(id=name), value=ast.Call())
                | ast.Assign(targets=[ast.Name(id=name)], value=ast.Call())
            ):
                found[node.lineno] = name
    return found


def is_anchored(source: str, how: str, name: str) -> bool:
    """Whether it only matches at the start; a pattern without a name, as all others of its file."""
    if how != "compile":
        return how in ANCHORED
    before = rf"\b{name}" if name else ""
    ways = r"\.(match|fullmatch|search|sub|subn|findall|finditer|split)\("
    used = set(re.findall(before + ways, source))
    return bool(used) and not used - ANCHORED


PATTERNS = list({one[1:]: one for one in patterns()}.values())


def hostile(pattern: str, number: int) -> Iterator[str]:
    """Texts of what the pattern names, again and again, after a beginning and before an end."""
    letters = dict.fromkeys(["", *literals(pattern)[:4], "a", "0", " "])
    for first, second in product(letters, letters):
        for head, tail in (("", ""), ('"', ""), ("", "!")):
            if first:
                yield head + (first + second) * number + tail
    for whole in (example(pattern, 0), example(pattern, 1)):
        for part, tail in product((whole, whole[:-1]), ("", "!", " ")):
            yield part * number + tail
            yield part + tail * number


@pytest.mark.parametrize(("place", "pattern", "anchored"), PATTERNS, ids=[p[0] for p in PATTERNS])
def test_no_pattern_goes_back_again_and_again(place: str, pattern: str, anchored: bool) -> None:
    pairs = zip(hostile(pattern, 30), hostile(pattern, 60), strict=True)
    for once, twice in pairs:
        before = steps(pattern, once, anchored=anchored)
        after = steps(pattern, twice, anchored=anchored)
        assert after <= GROWS_AT_MOST * before + 100, (place, twice[:8])


def test_the_counter_sees_the_pattern_that_once_was_there() -> None:
    """It looked for strings and brackets, and froze a worker for nine seconds with 64 KB."""
    pattern = r'"(?:[^"\\]|\\.)*+"|[\[\]{}]'
    once, twice = (steps(pattern, '"' + '\\"' * n, anchored=False) for n in (100, 200))
    assert twice > GROWS_AT_MOST * once


SHAPES: dict[str, Callable[[int], bytes]] = {
    "quotes in a string without an end": lambda n: b"[" * 70 + b'"' + b'\\"' * n,
    "strings": lambda n: b"[" * 70 + b'"x"' * n,
    "brackets": lambda n: b"[]" * n,
    "open brackets": lambda n: b"[" * n,
    "closing brackets": lambda n: b"[" * 70 + b"]" * n,
    "commas": lambda n: b"[" + b"1," * n + b"1]",
    "backslashes": lambda n: b"[" * 70 + b"\\" * n,
    "quotes": lambda n: b"[" * 70 + b'"' * n,
    "digits": lambda n: b"1" * n,
    "fraction": lambda n: b"0." + b"1" * n,
    "exponent": lambda n: b"1e" + b"1" * n,
    "escapes": lambda n: b'["' + b"\\u0000" * n + b'"]',
    "surrogates": lambda n: b'["' + b"\\ud800" * n + b'"]',
    "keys": lambda n: json.dumps({str(number): number for number in range(n)}).encode(),
    "one deep": lambda n: b'{"a":' * n + b"1" + b"}" * n,
    "blanks": lambda n: b" " * n + b"[]",
    "not text": lambda n: b"\xff" * n,
    "marks": lambda n: json.dumps(["\u0301\u0316" * n], ensure_ascii=False).encode(),
    "become marks": lambda n: json.dumps(["\u0f73" * n], ensure_ascii=False).encode(),
}


def read_as_entry(data: bytes) -> None:
    with_body = json.dumps({"body": data.decode("latin-1"), "properties": {}})
    read_message(with_body.encode(), max_body_bytes=1024 * 1024)


def read_as_envelope(data: bytes) -> None:
    document = read_envelope(data)
    parse_envelope(document)
    unknown_fields(map(str, document) if isinstance(document, dict) else ())


THEM = Ownership(
    who=ChannelAddress(channel="web", recipient="", address="a" * 300, thread=""),
    policy=ChannelPolicy(name="web"),
)
READERS: dict[str, Callable[[bytes], Any]] = {
    "check_shape": lambda data: check_shape(data, MAX_DEPTH),
    "read_json": read_json,
    "entry": read_as_entry,
    "envelope": read_as_envelope,
    "ownership": THEM,
}


def lines_of(work: Callable[[], object]) -> int:
    """How many lines of Python run, of ours and of libraries."""
    number = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:  # noqa: ANN401
        nonlocal number
        number += event == "line"
        return trace

    # The callbacks of others, when memory is collected, are no work of ours.
    gc.disable()
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
        gc.enable()
    return number


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reader", READERS)
def test_twice_the_input_is_at_most_three_times_the_work(reader: str, shape: str) -> None:
    read, of_size = READERS[reader], SHAPES[shape]
    once, twice = (
        lines_of(lambda size=size: read_or_refuse(read, of_size(size))) for size in (2000, 4000)
    )
    assert twice <= GROWS_AT_MOST * once + 100


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reader", READERS)
def test_two_hundred_kilobytes_of_anything_take_moments(reader: str, shape: str) -> None:
    """C counts no lines. What is not linear there takes minutes; the bound leaves much room."""
    data = of_bytes(shape, 200 * 1024)
    started = thread_time()
    read_or_refuse(READERS[reader], data)
    assert thread_time() - started < 2


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shape_of_a_megabyte_is_checked_in_50_ms(shape: str) -> None:
    data = of_bytes(shape, 1024 * 1024)
    took = []
    for _ in range(3):
        started = thread_time()
        read_or_refuse(READERS["check_shape"], data)
        took.append(thread_time() - started)
    assert min(took) < 0.05


def of_bytes(shape: str, size: int) -> bytes:
    unit = len(SHAPES[shape](2)) - len(SHAPES[shape](1))
    number = size // unit
    return SHAPES[shape](number * size // max(size, len(SHAPES[shape](number))))


def read_or_refuse(read: Callable[[bytes], object], data: bytes) -> None:
    with suppress(JsonRefusedError, EntryRefusedError, EnvelopeError):
        read(data)
