"""Turn slots: how many turns one process works at once, and how its agents share them.

Intake never waits for Telnyx: whoever finds no slot is committed with a due time, and lines up. The
sweeper picks from the line; a slot that it has published a wake for is promised until that arrives.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from worker.net.clock import boottime

PROMISE_S = 0.5
"""For so long a slot waits for its wake, which another process may have taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a sweeper may give away; promised slots count as taken."""

    free: int
    short: bool
    """Whether people may be waiting who found no slot here, and not only for their time."""
    held: Mapping[str, int]
    """How many each agent has."""
    most: int
    """How many one agent may have."""


class TurnSlots:
    """A bounded number of slots; one that comes free rouses the sweeper where somebody waits.

    Where there are several `agents`, none may have more than nine tenths: whoever writes to a quiet
    one finds a slot at once.
    """

    def __init__(
        self, count: int, *, agents: int = 1, clock: Callable[[], float] = boottime
    ) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._count = count
        self._most = max(1, count * 9 // 10) if agents > 1 else count
        self._free = count
        self._held: Counter[str] = Counter()
        self._promised: dict[str, deque[float]] = {}
        """Until when each promise holds, by agent."""
        self._crowded: set[str] = set()
        """The agents for which more were due than the last pick could take."""
        self._lined_up: set[str] = set()
        """Those for which somebody has lined up since that pick began."""
        self._unseen = False
        """Whether the last look found no slot to give away, and so nobody who waits."""
        self._closed = False
        self.rate_limited = False
        """Whether those in line wait for the moments of their calls, and not for slots."""
        self.roused = threading.Event()
        """Set when somebody who waits could have a slot; the sweeper clears it."""

    @property
    def free(self) -> int:
        """How many turns could start now."""
        with self._lock:
            return 0 if self._closed else self._free

    @property
    def busy(self) -> int:
        """How many turns are being worked."""
        return self._count - self._free

    def take_at_once(self, agent: str) -> bool:
        """Take a slot for a message that has just come; nobody jumps the line of his agent."""
        with self._lock:
            if agent in self._crowded or agent in self._lined_up:
                return False
            return self._take(agent, promised=len(self._promises_to(agent)))

    @contextmanager
    def woken(self, agent: str) -> Iterator[bool]:
        """Hold a slot for a wake that has arrived; yields False where there was none."""
        with self._lock:
            if promises := self._promises_to(agent):
                promises.popleft()
            taken = self._take(agent, promised=0)
        try:
            yield taken
        finally:
            if taken:
                self.release(agent)

    def release(self, agent: str) -> None:
        """Free a slot that was taken."""
        with self._lock:
            self._free += 1
            self._held[agent] -= 1
            if not self._held[agent]:
                del self._held[agent]
            wanted = self._unseen or self._has_capacity(self._crowded | self._lined_up)
        if wanted:
            self.roused.set()

    def note_waiting(self, agent: str) -> None:
        """Say that somebody of this agent waits, which is committed."""
        with self._lock:
            self._lined_up.add(agent)
            wanted = self._has_capacity((agent,))
        if wanted:
            self.roused.set()

    def capacity(self) -> Capacity:
        """Give what may be given away now: a pick begins."""
        with self._lock:
            self._crowded |= self._lined_up
            self._lined_up.clear()
            promised = self._all_promises()
            free = 0 if self._closed else max(0, self._free - promised.total())
            short = self._unseen or bool(self._crowded)
            self._unseen = free == 0
            return Capacity(free=free, short=short, held=self._held + promised, most=self._most)

    def promise(self, agents: Iterable[str], *, crowded: Collection[str]) -> None:
        """End a pick that found room: for whom wakes are published, and of whom more were due."""
        until = self._clock() + PROMISE_S
        with self._lock:
            self._crowded = set(crowded)
            for agent in agents:
                self._promised.setdefault(agent, deque()).append(until)

    def close(self) -> None:
        """Let no further turn start; running ones go on."""
        with self._lock:
            self._closed = True
        self.roused.set()

    @property
    def closed(self) -> bool:
        """Whether this process is going down."""
        return self._closed

    def _take(self, agent: str, *, promised: int) -> bool:
        of_agent = self._held[agent] + promised
        if self._closed or self._free <= promised or of_agent >= self._most:
            return False
        self._free -= 1
        self._held[agent] += 1
        return True

    def _has_capacity(self, agents: Collection[str]) -> bool:
        """Whether one of these agents could have a slot that is not promised."""
        if self.rate_limited or not agents:
            return False
        promised = self._all_promises()
        return self._free > promised.total() and any(
            self._held[agent] + promised[agent] < self._most for agent in agents
        )

    def _all_promises(self) -> Counter[str]:
        return Counter({agent: len(self._promises_to(agent)) for agent in list(self._promised)})

    def _promises_to(self, agent: str) -> deque[float]:
        """Give what is still promised; what is overdue is forgotten."""
        promises, now = self._promised.get(agent, deque()), self._clock()
        while promises and promises[0] <= now:
            promises.popleft()
        if not promises:
            self._promised.pop(agent, None)
        return promises
