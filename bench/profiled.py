"""The real worker app with a sampler in its process: `celery -A bench.profiled worker`.

Only bench/profile.py starts it. Every few milliseconds the sampler reads which threads have
used CPU since the last sample (/proc/self/task/*/schedstat); that time is added to their
present line.

Its bias: a thread that ran and now waits is sampled at its wait. py-spy has no such bias.
"""

import os
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from celery import bootsteps

from worker.celery import app

PERIOD_S = 0.003
DEPTH = 80
_TASKS = Path("/proc/self/task")


class Sampler(bootsteps.StartStopStep):  # type: ignore[misc]
    """Samples from the worker's start to its stop, then writes the file that PROFILE_FILE names."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **_: Any) -> None:  # noqa: ANN401 - Celery's signature
        super().__init__(worker)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="profile", daemon=True)
        self._stacks: Counter[str] = Counter()

    def start(self, _worker: object) -> None:
        """Start sampling."""
        self._thread.start()

    def stop(self, _worker: object) -> None:
        """Write stacks with microseconds: `outermost;…;innermost 1234`, as py-spy's raw format."""
        self._stop.set()
        self._thread.join()
        lines = (f"{stack} {spent_us}" for stack, spent_us in self._stacks.items() if spent_us)
        Path(os.environ["PROFILE_FILE"]).write_text("\n".join(lines))

    def _sample(self) -> None:
        spent: dict[int, int] = {}
        while not self._stop.wait(PERIOD_S):
            frames = sys._current_frames()  # noqa: SLF001 - there is no other way to see them
            natives = {one.ident: one.native_id for one in threading.enumerate()}
            for ident, frame in frames.items():
                native = natives.get(ident)
                if native is None or ident == threading.get_ident():
                    continue
                now_ns = _cpu_ns(native)
                used_ns = now_ns - spent.get(native, now_ns)
                spent[native] = now_ns
                if used_ns:
                    self._stacks[_stack(frame)] += used_ns // 1000


def _cpu_ns(native: int) -> int:
    try:
        return int((_TASKS / str(native) / "schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _stack(frame: FrameType | None) -> str:
    places: list[str] = []
    while frame is not None and len(places) < DEPTH:
        code = frame.f_code
        places.append(f"{code.co_qualname} ({code.co_filename}:{frame.f_lineno})")
        frame = frame.f_back
    return ";".join(reversed(places))


app.steps["worker"].add(Sampler)

__all__ = ["app"]
