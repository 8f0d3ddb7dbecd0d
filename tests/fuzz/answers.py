"""Kinds of input that other servers send: Telnyx's answers, streams and logs, webhook answers."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any

from tests.fuzz.harness import Kind
from tests.fuzz.mutate import damaged, json_damaged
from tests.support.world import World
from worker.channels.webhook import _judge
from worker.domain.errors import RetryableError
from worker.domain.routing import Agent
from worker.domain.timing import Timing
from worker.domain.turns.calls import CallOutcome, Done
from worker.domain.turns.plan import Reply
from worker.domain.turns.reconcile import Expectation, TurnText, reconcile
from worker.domain.turns.retries import plan_after
from worker.domain.turns.visible_text import is_visible, visible_text
from worker.domain.turns.wanted_tools import MAX_CALL_ID_BYTES, MAX_CALLS, wanted_tools
from worker.net.answer import Answer, IncompleteAnswerError
from worker.net.window import CallWindow
from worker.telnyx.answers.classify import classify, error_of_answer
from worker.telnyx.answers.rows import read_log
from worker.telnyx.streaming.stream import read_streamed

NOW = datetime(2026, 11, 30, tzinfo=UTC)
STATUSES = (*[200] * 20, 201, 204, 301, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500)
STATUSES += (502, 503, 504, 599, 999)
TEXTS = (
    *("Hello", "", "<think>a</think>Hello", "<think>", "</think>", "<tool_call>{}</tool_call>"),
    *("\ufeff\u200b", "a\n</think>\n\nb", "<b>Hello</b>", "`</think>`", "\u00a0"),
)
CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"at": 1}'}
MESSAGE = {"type": "message", "role": "assistant", "id": "m1"}
ERROR = {"errors": [{"code": "10015", "title": "Bad Request", "detail": "no"}]}
HEADERS = ("Retry-After", "x-ratelimit-reset", "x-request-id", "date", "content-type")
HEADER_VALUES = (
    *("5", "-1", "1e3", "nan", "Mon, 30 Nov 2026 00:00:10 GMT", "Mon, 99 Nov", "500ms", "9" * 400),
    *("application/json", "text/html", "text/event-stream", "\u0661", "a" * 5000),
)
LOG = {"role": "assistant", "text": "Hello", "sent_at": "2026-11-30T00:00:00Z"}


def response(random: Random) -> dict[str, Any]:
    """Make a response as models write them."""
    text = random.choice(TEXTS)
    parts = [{"type": "output_text", "text": text}] * random.choice((1, 1, 2))
    calls = [dict(CALL)] * random.choice((0, 0, 1, 2, MAX_CALLS + 5))
    output: list[object] = [MESSAGE | {"content": parts}, *calls]
    random.shuffle(output)
    return {
        "id": "resp_1",
        "object": "response",
        "status": random.choice(("completed", "completed", "incomplete", "failed", "queued")),
        "output": output,
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }


def bodies(random: Random) -> bytes:
    """Make an answer's body, sound or not."""
    refusals = (ERROR, {"detail": "no"}, {"error": {"code": "x"}})
    sound = response(random) if random.random() < 0.7 else random.choice(refusals)
    raw = json.dumps(json_damaged(sound, random) if random.random() < 0.6 else sound).encode()
    return damaged(raw, random, [raw, b"<html>no</html>"]) if random.random() < 0.5 else raw


def head(random: Random) -> tuple[int, dict[str, str]]:
    """Make a status and headers."""
    names = random.sample(HEADERS, random.randrange(len(HEADERS)))
    return random.choice(STATUSES), {name.lower(): random.choice(HEADER_VALUES) for name in names}


def packed(random: Random, body: bytes) -> bytes:
    """Put status, headers and body into one input."""
    return json.dumps(head(random)).encode() + b"\n" + body


def unpacked(raw: bytes) -> Answer:
    """Take them apart again."""
    first, _, body = raw.partition(b"\n")
    status, headers = json.loads(first)
    return Answer(status=status, headers=headers, body=body)


def check(outcome: CallOutcome) -> str:
    """Check what goes on to the tables and to people; return the plan's name."""
    agent = Agent(name="default", model="any", fallback_text="later", partial_text=True)
    plan = plan_after(outcome, agent=agent, attempt=0, timing=Timing())
    if isinstance(plan, Reply):
        assert is_visible(plan.text)
        assert visible_text(plan.text).strip() == plan.text.strip() or "</think" in plan.text
    if isinstance(outcome, Done):
        stored = json.dumps(outcome.output, allow_nan=False)
        assert "\\u0000" not in stored
        stored.encode()
        records = list(wanted_tools(outcome.tool_calls))
        assert len(records) <= MAX_CALLS + 1
        assert len({one.call_id for one in records}) == len(records)
        assert all(len(one.call_id.encode()) <= MAX_CALL_ID_BYTES for one in records)
        sent = sum(len(one.given_ids or (one.call_id,)) for one in records)
        assert sent == len(outcome.tool_calls), "each call has an outcome"
    return type(plan).__name__


class Judged:
    """One kind: how an input is made, and how it is judged."""

    batch = 50

    def __init__(
        self, share: float, make: Callable[[Random], bytes], judge: Callable[[bytes], str]
    ) -> None:
        self.share = share
        self.one = make
        self._judge = judge

    def feed(self, inputs: Sequence[bytes]) -> Iterable[str]:
        """Judge each."""
        return map(self._judge, inputs)

    def audit(self, outcomes: Counter[str]) -> None:
        """Several ends were seen: otherwise the inputs are of no use."""
        assert len(outcomes) > 1, outcomes


def _answer(raw: bytes) -> str:
    answer = unpacked(raw)
    if answer.status // 100 != 2:
        for writes in (True, False):
            str(error_of_answer("call", answer, writes=writes, now=NOW))
    return check(classify(answer, now=NOW))


def _make_stream(random: Random) -> bytes:
    events = [
        {"type": "response.created", "response": {"status": "in_progress", "output": []}},
        *(
            {"type": "response.output_text.delta", "output_index": 0, "delta": piece}
            for piece in random.choice(TEXTS)
        ),
        {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE},
        {"type": "response.completed", "response": response(random)},
    ]
    lines = [b": still here\n\n"] * random.randrange(3)
    for event in events:
        made = json_damaged(event, random) if random.random() < 0.1 else event
        kind = made.get("type") if isinstance(made, dict) else None
        name = kind if isinstance(kind, str) else "x"
        data = json.dumps(made)
        lines.append(f"event: {name}\ndata: {data}\n\n".encode("utf-8", "replace"))
    body = b"".join(lines)
    return damaged(body, random, [body]) if random.random() < 0.5 else body


def _stream(raw: bytes) -> str:
    size = 1 + len(raw) % 977
    parts = (raw[at : at + size] for at in range(0, len(raw), size))
    shown: list[str] = []
    window = CallWindow.starting_now(5.0)
    start = Answer(status=200, headers={"content-type": "text/event-stream"})
    try:
        outcome = read_streamed(
            start,
            parts,
            window=window,
            idle_s=1.0,
            on_text=lambda piece: shown.clear() if piece is None else shown.append(piece),
        )
    except IncompleteAnswerError:
        return "incomplete"
    assert not "".join(shown).lstrip().startswith("<think>")
    return check(outcome)


def _make_log(random: Random) -> bytes:
    rows = [
        LOG | {"role": random.choice(("user", "assistant", "tool")), "text": random.choice(TEXTS)}
        for _ in range(random.randrange(1, 6))
    ]
    rows[0] |= {"role": "user", "text": "Hello"}
    if random.random() < 0.5:
        rows[-1]["tool_calls"] = [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]
    page = {"data": rows, "meta": {"total_results": len(rows)}}
    made = json_damaged(page, random) if random.random() < 0.7 else page
    raw = json.dumps(made).encode()
    return damaged(raw, random, [raw]) if random.random() < 0.4 else raw


def _log(raw: bytes) -> str:
    try:
        log = read_log(lambda _number, _size: Answer(status=200, headers={}, body=raw))
    except RetryableError:
        return "unreadable"
    for quiet in (True, False):
        expected = Expectation(
            user_messages=0,
            text=TurnText(text="Hello"),
            newest_call_s=1000.0 if quiet else 0.0,
            newest_unknown_s=1000.0 if quiet else 0.0,
            quiet_s=180.0,
            again_s=2.0,
            recorded=("c1",) if len(raw) % 2 else (),
        )
        verdict = reconcile(log, expected).verdict
        assert not isinstance(verdict, Reply) or is_visible(verdict.text)
    return type(verdict).__name__


def _webhook(raw: bytes) -> str:
    return type(_judge(unpacked(raw), slow=len(raw) % 2 == 0)).__name__


def _kind(
    share: float, make: Callable[[Random], bytes], judge: Callable[[bytes], str]
) -> Callable[[World], AbstractContextManager[Kind]]:
    @contextmanager
    def opened(_: World) -> Iterator[Kind]:
        yield Judged(share, make, judge)

    return opened


telnyx_answers = _kind(0.15, lambda random: packed(random, bodies(random)), _answer)
telnyx_streams = _kind(0.1, _make_stream, _stream)
telnyx_logs = _kind(0.1, _make_log, _log)
webhook_answers = _kind(0.05, lambda random: packed(random, bodies(random)), _webhook)
