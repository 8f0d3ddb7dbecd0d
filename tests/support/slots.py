"""Turn slots that are taken, as by turns that wait for Telnyx."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count

from worker.domain.fairness import Share
from worker.handlers.turns.slots import TurnSlots


@contextmanager
def taken(slots: TurnSlots, *, leaving: int = 0) -> Iterator[None]:
    """Take all free slots but some, each for an agent of its own: none may have all of them."""
    with ExitStack() as stack:
        numbers = count()
        while slots.free > leaving:  # other threads may take and give back meanwhile
            stack.enter_context(slots.woken(Share(f"busy {next(numbers)}")))
        yield
