"""A tool that is a Python function.

    arguments fit the signature? ── no ──▶ failed, with the field for the model
       └── yes ──▶ runs in a thread ──▶ returns ──▶ done
                                   ├──▶ raises ──▶ failed
                                   └──▶ not within timeout_s ──▶ unknown; the thread goes on

Of an exception only the type's name leaves this module: its text may hold what a person wrote.
"""

import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait

from pydantic_core import to_json

from worker.domain.tools import ToolConfig, ToolRequest, ToolResult, ToolSpec
from worker.tools.context import ToolContext, ToolError
from worker.tools.signature import ArgumentsError, Signature
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
        self._signature = Signature(function)
        self._function = function
        self._lock = threading.Lock()
        self._stuck: set[Future[ToolResult]] = set()
        self.spec = ToolSpec(
            name=config.name,
            description=config.description or inspect.getdoc(function) or "",
            parameters=config.parameters or self._signature.schema,
        )
        self.takes_key = config.honours_key
        self.timeout_s = config.timeout_s

    def run(self, request: ToolRequest) -> ToolResult:
        """Run it in a thread of its own, whatever it does."""
        ended: Future[ToolResult] = Future()
        # Not a ThreadPoolExecutor: the interpreter waits for its threads at the end, and a stuck
        # one would keep the process from ending.
        thread = threading.Thread(
            target=self._carry, args=(ended, request), name=f"tool {self.spec.name}", daemon=True
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
        who = request.who
        context = ToolContext(
            idempotency_key=str(request.key),
            channel=who.channel,
            recipient=who.recipient,
            user=who.address,
            thread=who.thread,
            # A copy: a function may change its own.
            metadata=dict(request.metadata),
        )
        try:
            arguments = self._signature.bind(request.arguments, context)
            value = self._function(**arguments)
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
