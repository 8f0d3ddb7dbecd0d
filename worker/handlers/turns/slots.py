"""Turn slots: how many turns one process works on at once, and how its agents share them.

Intake never waits for Telnyx: without a free slot, a message is committed with a due time, and its
user waits. The sweeper picks from the waiting users; a slot for which it has published a wake is
promised until the wake arrives.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from worker.net.clock import boottime

PROMISE_S = 0.5
"""How long a slot is kept for its wake, which another process may have taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The slots a sweeper may assign; promised ones count as taken."""

    free: int
    short: bool
    """Whether users may be waiting because they found no slot here, and not for their due time."""
    held: Mapping[str, int]
    """Slots that each agent has."""
    most: int
    """Slots that one agent may have."""


class TurnSlots:
    """A bounded number of slots; a slot that comes free rouses the sweeper if a user waits.

    With several `agents`, none may have more than nine tenths, so that a message to a quiet agent
    finds a slot at once.
    """

    def __init__(
        self, count: int, *, agents: int = 1, clock: Callable[[], float] = boottime
    ) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._count = count
        # One slot at least: with a count of one, nine tenths would be none.
        self._most = max(1, count * 9 // 10) if agents > 1 else count
        self._free = count
        self._held: Counter[str] = Counter()
        self._promised: dict[str, deque[float]] = {}
        """The time at which each promise ends, by agent."""
        self._crowded: set[str] = set()
        """The agents for which more were due than the last pick could take."""
        self._waiting: set[str] = set()
        """The agents for which a user has begun to wait since that pick."""
        self._unseen = False
        """Whether the last pick found no free slot, and so did not look for waiting users."""
        self._closed = False
        self.rate_limited = False
        """Whether the waiting users need permits for their calls, and not slots."""
        self.roused = threading.Event()
        """Set when a waiting user could have a slot; the sweeper clears it."""

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
        """Take a slot for a message that has just arrived; return whether there was one."""
        with self._lock:
            # A new message must not overtake the users of its agent who wait already.
            if agent in self._crowded or agent in self._waiting:
                return False
            return self._take(agent, promised=len(self._promises_to(agent)))

    @contextmanager
    def woken(self, agent: str) -> Iterator[bool]:
        """Hold a slot for a wake that has arrived; yield False if there was none."""
        with self._lock:
            # The wake arrived, so one promise is kept, whether or not a slot is left for it.
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
            wanted = self._unseen or self._has_capacity(self._crowded | self._waiting)
        if wanted:
            self.roused.set()

    def note_waiting(self, agent: str) -> None:
        """Note that a user of this agent waits; the message is committed already."""
        with self._lock:
            self._waiting.add(agent)
            wanted = self._has_capacity((agent,))
        if wanted:
            self.roused.set()

    def capacity(self) -> Capacity:
        """Begin a pick: return the slots that it may assign."""
        with self._lock:
            self._crowded |= self._waiting
            self._waiting.clear()
            promised = self._all_promises()
            free = 0 if self._closed else max(0, self._free - promised.total())
            short = self._unseen or bool(self._crowded)
            # With no slot to assign, the pick does not look for users: some may wait unseen.
            self._unseen = free == 0
            return Capacity(free=free, short=short, held=self._held + promised, most=self._most)

    def promise(self, agents: Iterable[str], *, crowded: Collection[str]) -> None:
        """End a pick that found capacity.

        `agents`: one for each published wake. `crowded`: agents of which more users were due.
        """
        until = self._clock() + PROMISE_S
        with self._lock:
            self._crowded = set(crowded)
            for agent in agents:
                self._promised.setdefault(agent, deque()).append(until)

    def close(self) -> None:
        """Start no further turn; running ones continue."""
        with self._lock:
            self._closed = True
        self.roused.set()

    @property
    def closed(self) -> bool:
        """Whether this process is stopping."""
        return self._closed

    def _take(self, agent: str, *, promised: int) -> bool:
        of_agent = self._held[agent] + promised
        if self._closed or self._free <= promised or of_agent >= self._most:
            return False
        self._free -= 1
        self._held[agent] += 1
        return True

    def _has_capacity(self, agents: Collection[str]) -> bool:
        """Return whether one of these agents could have a slot that is not promised."""
        if self.rate_limited or not agents:
            return False
        promised = self._all_promises()
        return self._free > promised.total() and any(
            self._held[agent] + promised[agent] < self._most for agent in agents
        )

    def _all_promises(self) -> Counter[str]:
        return Counter({agent: len(self._promises_to(agent)) for agent in list(self._promised)})

    def _promises_to(self, agent: str) -> deque[float]:
        """Return the promises that still hold; drop the ones that have ended."""
        promises, now = self._promised.get(agent, deque()), self._clock()
        while promises and promises[0] <= now:
            promises.popleft()
        if not promises:
            self._promised.pop(agent, None)
        return promises
