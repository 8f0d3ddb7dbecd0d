"""Noticing that clients leave: one look at all of them every 0.05 s, however many hang.

aiohttp has no event for it, unless the handler is to be cancelled, which Telnyx does not do.
"""

import asyncio
from collections.abc import Callable

_LOOK_S = 0.05


class Departures:
    """Waits for clients to leave."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._watch: asyncio.Task[None] | None = None
        self._closed = False

    async def wait(self, gone: Callable[[], bool]) -> None:
        """Return when `gone` is true, or when the simulator stops."""
        if gone() or self._closed:
            return
        left = asyncio.get_running_loop().create_future()
        self._waiting.append((gone, left))
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._look())
        await left

    async def close(self) -> None:
        """Let everybody go."""
        self._closed = True
        if self._watch is not None:
            await self._watch

    async def _look(self) -> None:
        while self._waiting:
            await asyncio.sleep(0 if self._closed else _LOOK_S)
            still: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
            for gone, left in self._waiting:
                if left.done():
                    continue
                if self._closed or gone():
                    left.set_result(None)
                else:
                    still.append((gone, left))
            self._waiting = still
