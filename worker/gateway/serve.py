"""Serves the application until SIGTERM or SIGINT, then finishes the requests it has."""

import signal
import socket
from typing import Final

import uvicorn
from starlette.applications import Starlette

_MAX_CONNECTIONS: Final = 1000
"""Beyond it a request gets 503: each may hold a body in memory."""
_STOP_S: Final = 10
_IDLE_S: Final = 75
"""An idle connection: longer than the usual 60 s of a load balancer, which must close it first."""


def listen(host: str, port: int, *, share: bool) -> socket.socket:
    """Listen. `share`: others may listen there, too, and the kernel spreads the connections.

    Raises OSError. Without `share` the second gateway on a port fails: of two installations on one
    machine, each would take events of the other.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=1024, reuse_port=share)


def serve(app: Starlette, listening: socket.socket) -> None:
    """Return after the last answer."""
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        lifespan="off",
        limit_concurrency=_MAX_CONNECTIONS,
        server_header=False,
        timeout_graceful_shutdown=_STOP_S,
        timeout_keep_alive=_IDLE_S,
    )
    server = uvicorn.Server(config)

    def stop(*_: object) -> None:
        server.should_exit = True

    # Until uvicorn has its own; it raises the signal again when it has stopped.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.run(sockets=[listening])
