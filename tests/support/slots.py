"""Turn slots that are taken, as by turns that wait for Telnyx."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from worker.handlers.slots import TurnSlots


@contextmanager
def taken(slots: TurnSlots, *, leaving: int = 0) -> Iterator[None]:
    """Take all free slots but some, each for an agent of its own: none may have all of them."""
    with ExitStack() as stack:
        for number in range(slots.free - leaving):
            if not stack.enter_context(slots.woken(f"busy {number}")):
                raise AssertionError("a slot was free, and could not be taken")
        yield
