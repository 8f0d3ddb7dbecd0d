"""Turn slots: how many turns one process works on at once, and how they are shared.

Intake never waits for Telnyx: without a free slot, a message is committed with a due time, and its
user waits. The sweeper picks from the waiting users; a slot for which it has published a wake is
promised until the wake arrives.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from worker.domain.fairness import Share
from worker.net.clock import boottime

_Key = TypeVar("_Key")

PROMISE_S = 0.5
"""How long a slot is kept for its wake, which another process may have taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The slots a sweeper may assign; promised ones count as taken."""

    free: int
    short: bool
    """Whether users may be waiting because they found no slot here, and not for their due time."""
    held: Mapping[Share, int]
    """Slots that each share has."""
    most: int
    """Slots that one agent may have."""
    most_surplus: int
    """Of these, slots for its surplus turns."""


class TurnSlots:
    """A bounded number of slots; a slot that comes free rouses the sweeper if a user waits.

    With several `agents`, none may have more than nine tenths, so that a message to a quiet agent
    finds a slot at once. Of these, its surplus turns may have nine tenths, for the same reason.
    """

    def __init__(
        self, count: int, *, agents: int = 1, clock: Callable[[], float] = boottime
    ) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._count = count
        # One slot at least: with a count of one, nine tenths would be none.
        self._most = max(1, count * 9 // 10) if agents > 1 else count
        self._most_surplus = max(1, self._most * 9 // 10)
        self._free = count
        self._held: Counter[Share] = Counter()
        self._groups: Counter[int] = Counter()
        """Slots that were taken at once, by the sender's group."""
        # One group that writes at once leaves half of the slots that surplus turns leave.
        self._many = max(1, (self._most - self._most_surplus) // 2)
        self._promised: dict[Share, deque[float]] = {}
        """The time at which each promise ends, by share."""
        self._crowded: set[Share] = set()
        """The shares for which more were due than the last pick could take."""
        self._waiting: set[Share] = set()
        """The shares for which a user has begun to wait since that pick."""
        self._unseen = False
        """Whether the last pick found no free slot, and so did not look for waiting users."""
        self.closed = False
        """Whether this process is stopping."""
        self.rate_limited = False
        """Whether the waiting users need permits for their calls, and not slots."""
        self.rests = False
        """Whether the sweeper leaves most looks to other processes."""
        self.roused = threading.Event()
        """Set when a waiting user could have a slot; the sweeper clears it."""

    @property
    def free(self) -> int:
        """How many turns could start now."""
        with self._lock:
            return 0 if self.closed else self._free

    @property
    def busy(self) -> int:
        """How many turns are being worked."""
        return self._count - self._free

    @property
    def short(self) -> bool:
        """Whether users may be waiting because they found no slot here."""
        return self._unseen or bool(self._crowded or self._waiting)

    def has_many_of(self, group: int) -> bool:
        """Return whether further messages of this group are surplus."""
        return self._groups[group] >= self._many

    def take_at_once(self, share: Share, group: int) -> bool:
        """Take a slot for a message that has just arrived; return whether there was one."""
        with self._lock:
            # A new message must not overtake the users who wait already, unless these are surplus.
            if not {share, Share(share.agent)}.isdisjoint(self._crowded | self._waiting):
                return False
            taken = self._take(share, self._all_promises())
            if taken:
                self._groups[group] += 1
            return taken

    @contextmanager
    def woken(self, share: Share) -> Iterator[bool]:
        """Hold a slot for a wake that has arrived; yield False if there was none."""
        # There may be more due users than the process that found this one can take.
        if self.rests:
            self.rests = False
            self.roused.set()
        with self._lock:
            # The wake arrived, so one promise is kept, whether or not a slot is left for it.
            if promises := self._promises_to(share):
                promises.popleft()
            taken = self._take(share, Counter())
        try:
            yield taken
        finally:
            if taken:
                self.release(share)

    def release(self, share: Share, group: int | None = None) -> None:
        """Free a slot that was taken; `group`: at once, for a message of it."""
        with self._lock:
            self._free += 1
            _decrement(self._held, share)
            if group is not None:
                _decrement(self._groups, group)
            wanted = self._unseen or self._has_capacity(self._crowded | self._waiting)
        if wanted:
            self.roused.set()

    def note_waiting(self, share: Share) -> None:
        """Note that a user of this share waits; the message is committed already."""
        with self._lock:
            self._waiting.add(share)
            wanted = self._has_capacity((share,))
        if wanted:
            self.roused.set()

    def capacity(self) -> Capacity:
        """Begin a pick: return the slots that it may assign."""
        with self._lock:
            self._crowded |= self._waiting
            self._waiting.clear()
            promised = self._all_promises()
            free = 0 if self.closed else max(0, self._free - promised.total())
            short = self._unseen or bool(self._crowded)
            # With no slot to assign, the pick does not look for users: some may wait unseen.
            self._unseen = free == 0
            return Capacity(
                free=free,
                short=short,
                held=self._held + promised,
                most=self._most,
                most_surplus=self._most_surplus,
            )

    def promise(self, shares: Iterable[Share], *, crowded: Collection[Share]) -> None:
        """End a pick: `shares` of the published wakes, and `crowded` ones with more users due."""
        until = self._clock() + PROMISE_S
        with self._lock:
            self._crowded = set(crowded)
            for share in shares:
                self._promised.setdefault(share, deque()).append(until)

    def close(self) -> None:
        """Start no further turn; running ones continue."""
        with self._lock:
            self.closed = True
        self.roused.set()

    def _take(self, share: Share, promised: Counter[Share]) -> bool:
        # A promise to another share does not count: its wake finds no slot, and is sent again.
        if self.closed or self._free <= promised[share] or not self._may_grow(share, promised):
            return False
        self._free -= 1
        self._held[share] += 1
        return True

    def _may_grow(self, share: Share, promised: Counter[Share]) -> bool:
        """Return whether agent and share have less than they may have, promises included."""
        both = (Share(share.agent), Share(share.agent, surplus=True))
        held = {one: self._held[one] + promised[one] for one in both}
        if share.surplus and held[share] >= self._most_surplus:
            return False
        return sum(held.values()) < self._most

    def _has_capacity(self, shares: Collection[Share]) -> bool:
        """Return whether one of these shares could have a slot that is not promised."""
        if self.rate_limited or not shares:
            return False
        promised = self._all_promises()
        return self._free > promised.total() and any(
            self._may_grow(share, promised) for share in shares
        )

    def _all_promises(self) -> Counter[Share]:
        return Counter({share: len(self._promises_to(share)) for share in list(self._promised)})

    def _promises_to(self, share: Share) -> deque[float]:
        """Return the promises that still hold; drop the ones that have ended."""
        promises, now = self._promised.get(share, deque()), self._clock()
        while promises and promises[0] <= now:
            promises.popleft()
        if not promises:
            self._promised.pop(share, None)
        return promises


def _decrement(counter: Counter[_Key], key: _Key) -> None:
    """Subtract one, and forget a key that has none left: there are many over time."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
