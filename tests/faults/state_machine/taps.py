"""Where a worker can be stopped: before and after each of its store and HTTP calls.

crash   it is never heard of again, as after kill -9
hold    it stands still, as after SIGSTOP, until the schedule lets it go on
away    Postgres is gone: before the call, or with the reply of a commit
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from worker.domain.errors import DatabaseAwayError, StaleLeaseError

Side = Literal["before", "after"]


class Crash(BaseException):
    """The process is gone. No handler may catch this."""


@dataclass(frozen=True, kw_only=True)
class Trap:
    """What happens at the `skip`-th passing of a point; `point` "" is any."""

    kind: Literal["crash", "hold", "away"]
    point: str = ""
    side: Side | None = None
    skip: int = 0
    frozen: bool = True
    """Of a hold: the whole process stands, its heartbeat too."""


class Actor:
    """A thread that runs only while somebody waits for it."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self._killed = False
        self.finished = False
        self.crashed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def go(self) -> bool:
        """Let it run until it is held or ends, and raise what it raised; gives whether it ended."""
        self._go.release()
        self._stopped.acquire()
        if self.finished:
            self._thread.join()
        if self._error is not None:
            raise self._error
        return self.finished

    def kill(self) -> None:
        """End it where it stands."""
        self._killed = True
        if not self.finished:
            self.go()

    def hold(self) -> None:
        """Called by the work itself: stand still."""
        self._stopped.release()
        self._go.acquire()
        if self._killed:
            raise Crash

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._killed:
                self._work()
        except Crash:
            self.crashed = True
        except Exception as error:  # noqa: BLE001 # it belongs to the thread that waits
            self._error = error
        finally:
            self.finished = True
            self._stopped.release()


@dataclass
class Taps:
    """The traps of one worker."""

    on_pass: Callable[[str, Side], None]
    refused: Callable[[], None]
    """Told of every write that the fence kept out."""
    sprung: Callable[[Trap, str], None] = lambda *_: None
    traps: list[Trap] = field(default_factory=list)
    actor: Actor | None = None
    """Whose thread the worker runs in; None = in the test's own, where it cannot be held."""

    def __call__(self, point: str, side: str) -> None:
        """Pass a point: a trap that waits for it springs."""
        assert side in {"before", "after"}
        self.on_pass(point, side)  # type: ignore[arg-type]
        for place, trap in enumerate(self.traps):
            if not self._fits(trap, point, side):
                continue
            if trap.skip:
                self.traps[place] = Trap(**{**vars(trap), "skip": trap.skip - 1})
                continue
            del self.traps[place]
            self._spring(trap, point)
            return

    def _fits(self, trap: Trap, point: str, side: str) -> bool:
        if trap.kind == "away" and point.startswith("telnyx."):
            return False
        if trap.kind == "hold" and self.actor is None:
            return False
        return trap.point in {"", point} and trap.side in {None, side}

    def _spring(self, trap: Trap, point: str) -> None:
        self.sprung(trap, point)
        match trap.kind:
            case "crash":
                raise Crash
            case "away":
                raise DatabaseAwayError("the test took Postgres away")
            case "hold":
                assert self.actor is not None
                self.actor.hold()


class Tapped:
    """A store with its taps. `notes` are called with the arguments and the result of a method."""

    def __init__(
        self,
        inner: object,
        label: str,
        taps: Taps,
        notes: Mapping[str, Callable[[tuple[Any, ...], Any], Any]] | None = None,
    ) -> None:
        self._inner = inner
        self._label = label
        self._taps = taps
        self._notes = notes or {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 # whatever the store has
        method = getattr(self._inner, name)
        if not callable(method):
            return method
        point, note = f"{self._label}.{name}", self._notes.get(name)

        def tapped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self._taps(point, "before")
            try:
                result = method(*args, **kwargs)
            except StaleLeaseError:
                self._taps.refused()
                raise
            if note is not None:
                result = note(args, result)
            self._taps(point, "after")
            return result

        return tapped
