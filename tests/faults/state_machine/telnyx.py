"""The simulator without sockets: the same core, the same faults, in the caller's thread and time.

Everything above the connection is the service's own code (requests, classification, logs read page
by page), everything behind it the simulator's. What is left out, bytes on a wire, has tests of its
own. What is gained: a schedule costs a third, repeats exactly, and hours pass in no time.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import httpcore
from pydantic import SecretStr

from tests.faults.state_machine.clock import Clock, SteppedLoop
from worker.net.answer import Answer, IncompleteAnswerError, Read
from worker.net.clock import boottime
from worker.net.connection import Connection
from worker.net.window import DEADLINE_PASSED, CallWindow
from worker.sandbox.simulator.behaviour.config import SimulatorConfig
from worker.sandbox.simulator.behaviour.faults import FaultOrder, Match
from worker.sandbox.simulator.behaviour.plans import Endpoint, Plan, Wire
from worker.sandbox.simulator.endpoints.answers import Answer as Said
from worker.sandbox.simulator.record.events import ConversationCreated, MessageStored
from worker.sandbox.simulator.record.log import Entry
from worker.sandbox.simulator.record.values import Draft
from worker.sandbox.simulator.serving.app import _received, _turned_away
from worker.sandbox.simulator.serving.execution import carry_out
from worker.sandbox.simulator.state.state import Exchange, State
from worker.telnyx.http.connection_per_thread import CALL_TIMEOUT_S, ConnectionPerThread

LISTED_AFTER_S = 1.0
"""A conversation made a moment ago is not in the list yet."""
_Result = TypeVar("_Result")
Pass = Callable[[str, str], None]
"""Called as (point, "before" or "after"): where a trap may spring."""


@dataclass
class _Connection:
    closing: bool = False

    def is_closing(self) -> bool:
        return self.closing


@dataclass
class _Request:
    """As much of aiohttp's request as the simulator looks at."""

    method: str
    raw_path: str
    headers: dict[str, str]
    body: bytes
    transport: _Connection = field(default_factory=_Connection)

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.raw_path).path)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.raw_path).query, keep_blank_values=True))

    async def read(self) -> bytes:
        return self.body


class InProcessTelnyx:
    """Telnyx, called directly. One request at a time, in whichever thread."""

    base_url = "http://telnyx.invalid/v2"

    def __init__(self, *, call_timeout_s: float) -> None:
        self._call_timeout_s = call_timeout_s
        self._loop = SteppedLoop()
        self.clock: Clock | None = None
        self.reset()

    def reset(self) -> None:
        """Forget everything; nothing may be at work."""
        self.state = State(SimulatorConfig(list_visible_after_s=0), None)
        self._born: dict[object, float] = {}
        self._noted = 0

    @property
    def api_key(self) -> str:
        return self.state.config.api_key

    def log(self) -> tuple[Entry, ...]:
        return self.state.log.entries()

    def inject(self, fault: str, *, count: int = 1, **changes: object) -> None:
        """Let a fault hit the next requests of its endpoint."""
        self.state.faults.inject(
            FaultOrder(fault=fault, match=Match(), count=count, changes=changes)
        )

    def write_foreign(self, conversation_id: str, text: str) -> None:
        """Put a message into a thread that no request of ours brought."""
        draft = Draft(role="user", text=text, origin="foreign")
        self.state.store.add(None, conversation_id, [draft])
        self._note()

    def tick(self) -> None:
        """Let the clock's new time be noticed: what sleeps at Telnyx may wake."""
        assert self.clock is not None
        while self.state._tasks and (due_s := self._loop.next_due_s()) <= self.clock.now_s:
            self._loop.now_s = max(due_s, self._loop.now_s)
            self._loop.settle()
            self._note()
        self._loop.now_s = self.clock.now_s

    def finish(self) -> None:
        """End what still goes on, so that nothing of it is left to the next schedule."""
        self._loop.now_s += 3600  # nobody may sleep through the end
        self._loop.run_until_complete(self.state.stop())

    def close(self) -> None:
        self._loop.close()

    def exchange(self, asked: _Request, window: CallWindow, passing: Pass) -> Said:
        """Do what `Connection.exchange` does."""
        assert self.clock is not None
        exchange_point = f"telnyx.{_endpoint(asked)}"
        timeout_s = self._call_timeout_s if asked.path.endswith("responses") else CALL_TIMEOUT_S
        clock, started = self.clock, window.finish_by - timeout_s
        window.clock = lambda: boottime() + clock.jumped_since(started)
        passing(exchange_point, "before")
        window.left_to_send_s()
        window.wrote = True
        exchange, said = self._loop.run_until_complete(self._serve(asked))
        self._note()
        try:
            answer = self._on_the_wire(exchange.plan, said, window)
        finally:
            asked.transport.closing = True
            if exchange.goes_on:
                self._loop.settle()
                self._note()
            if not exchange.goes_on:
                self.state.end(exchange)
        passing(exchange_point, "after")
        window.left_s()
        return answer

    async def _serve(self, asked: _Request) -> tuple[Exchange, Said | None]:
        exchange = await _received(self.state, asked)  # type: ignore[arg-type]
        answer = _turned_away(self.state, exchange, asked)  # type: ignore[arg-type]
        if answer is not None:
            self.state.end(exchange)
            return exchange, answer
        with self._as_seen(exchange):
            return exchange, await carry_out(self.state, exchange)

    def _on_the_wire(self, plan: Plan, said: Said | None, window: CallWindow) -> Said:
        match plan.wire:
            case Wire.DROP | Wire.CUT:
                raise IncompleteAnswerError("ended early")
            case Wire.RESET:
                raise IncompleteAnswerError("read: ConnectionResetError")
            case Wire.HANG | Wire.TRICKLE:
                assert self.clock is not None
                self.clock.advance(window.left_s() + 0.001)
                raise IncompleteAnswerError(DEADLINE_PASSED)
            case _:
                assert said is not None
        if plan.wire is Wire.EMPTY:
            return Said()
        body = said.body
        if plan.wire is Wire.TRUNCATED:
            body = body[: len(body) // 2]
        return Said(status=said.status, body=body, headers=said.headers)

    @contextmanager
    def _as_seen(self, exchange: Exchange) -> Iterator[None]:
        """Hide from a listing what is too young for it, by the test's clock."""
        store, plan = self.state.store, exchange.plan
        exchange.plan = replace(plan, stale_s=0.0, hidden_s=0.0)
        threads, conversations = store._threads, store._conversations
        if exchange.endpoint is Endpoint.MESSAGES and plan.stale_s:
            store._threads = {
                key: [
                    message
                    for place, message in enumerate(thread)
                    if self._age_s((key, place)) >= plan.stale_s
                ]
                for key, thread in threads.items()
            }
        if exchange.endpoint is Endpoint.LIST:
            hidden_s = max(plan.hidden_s, LISTED_AFTER_S)
            store._conversations = {
                key: one for key, one in conversations.items() if self._age_s(key) >= hidden_s
            }
        try:
            yield
        finally:
            store._threads, store._conversations = threads, conversations

    def _note(self) -> None:
        """Remember when, by the test's clock, things came into being."""
        entries = self.state.log._kept
        for entry in entries[self._noted :]:
            match entry.event:
                case MessageStored() as event:
                    self._born[event.conversation_id, event.index] = self._loop.now_s
                case ConversationCreated() as event:
                    self._born[event.conversation.id] = self._loop.now_s
                case _:
                    pass
        self._noted = len(entries)

    def _age_s(self, what: object) -> float:
        return self._loop.now_s - self._born[what]


class InProcessHttp(ConnectionPerThread):
    """The way of one worker to `InProcessTelnyx`."""

    def __init__(self, telnyx: InProcessTelnyx, passing: Pass) -> None:
        super().__init__(SecretStr(telnyx.api_key), base_url=telnyx.base_url)
        self._in_process = _InProcessConnection(telnyx, passing)

    def _connection(self) -> Connection:
        return self._in_process


class _InProcessConnection(Connection):
    """Takes the place of a connection."""

    def __init__(self, telnyx: InProcessTelnyx, passing: Pass) -> None:
        self._telnyx = telnyx
        self._passing = passing

    def exchange(
        self, request: httpcore.Request, window: CallWindow, read: Read[_Result]
    ) -> _Result:
        assert isinstance(request.stream, Iterable)
        asked = _Request(
            method=request.method.decode(),
            raw_path=request.url.target.decode(),
            headers={name.decode().lower(): value.decode() for name, value in request.headers},
            body=b"".join(request.stream),
        )
        said = self._telnyx.exchange(asked, window, self._passing)
        headers = {name.lower(): value for name, value in said.headers}
        head = Answer(status=said.status, headers=headers)
        return read(head, iter([said.body]))


def _endpoint(asked: _Request) -> str:
    """Name a request as traps know it."""
    tail = asked.path.rpartition("/")[2]
    named = {"responses": "respond", "messages": "read", "message": "add", "models": "offer"}
    return named.get(tail, "create" if asked.method == "POST" else "list")
