"""Running Python code that may not end: a thread for each run, and a bound on those left behind.

    caller ── starts ──▶ thread ──▶ result
       └─ waits timeout_s, then leaves ──▶ the thread is stuck until it ends by itself

A thread cannot be cancelled. Those with a caller are as many as there are callers; only the stuck
ones could grow without end, so they are counted, and at MAX_STUCK nothing new is started. Not a
ThreadPoolExecutor: the interpreter waits for its threads at the end, and a stuck one would keep
the process from ending.
"""

import threading
from collections.abc import Callable
from typing import Literal

from worker.domain.tools import ToolResult

MAX_STUCK = 8


class _Run:
    """One run; all but `ended` under the lock of its owner."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.result: ToolResult | None = None
        self.stuck = False


class Threads:
    """The threads of one tool. Safe to share."""

    def __init__(self, name: str, *, max_stuck: int = MAX_STUCK) -> None:
        self._name = name
        self._max_stuck = max_stuck
        self._lock = threading.Lock()
        self._stuck = 0

    def run(
        self, work: Callable[[], ToolResult], timeout_s: float
    ) -> ToolResult | Literal["busy", "late"]:
        """Return the result of `work`. "busy": it was not started. "late": it still runs.

        `work` must not raise.
        """
        run = _Run()
        with self._lock:
            if self._stuck >= self._max_stuck:
                return "busy"
        try:
            threading.Thread(
                target=self._carry, args=(run, work), name=f"tool {self._name}", daemon=True
            ).start()
        except RuntimeError:  # the system has no more threads
            return "busy"
        run.ended.wait(timeout_s)
        with self._lock:
            if run.result is not None:
                return run.result
            run.stuck = True
            self._stuck += 1
            return "late"

    def _carry(self, run: _Run, work: Callable[[], ToolResult]) -> None:
        result = work()
        with self._lock:
            run.result = result
            # Under the same lock as the caller's look: it sees the result, or counts the thread.
            self._stuck -= run.stuck
        run.ended.set()
