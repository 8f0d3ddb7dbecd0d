"""Serves a state on a port until `stop`, on the caller's event loop."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from worker.sandbox.simulator.serving.app import build_app
from worker.sandbox.simulator.state.state import State

_BACKLOG = 4096
_PATIENCE_S = 0.2


async def serve(
    state: State,
    *,
    host: str,
    port: int,
    ready: Callable[[int], None],
    stop: asyncio.Event,
) -> None:
    """Serve until `stop`. `port` 0 takes a free one; `ready` is called with the real one.

    A request whose client leaves is carried out all the same, as at Telnyx: aiohttp cancels no
    handler unless asked to. Whatever is still at work at the end is given up.
    """
    runner = web.AppRunner(build_app(state), access_log=None, shutdown_timeout=_PATIENCE_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=_BACKLOG)
        await site.start()
        ready(int(runner.addresses[0][1]))
        await stop.wait()
    finally:
        await state.stop()
        await runner.cleanup()
        state.log.close()
