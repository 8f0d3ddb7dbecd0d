"""Unit tests are pure: whatever starts a process or opens a connection belongs elsewhere."""

import sys
from collections.abc import Iterator

import pytest

_FORBIDDEN = {"subprocess.Popen", "os.fork", "os.posix_spawn", "socket.bind", "socket.connect"}
_running: list[str] = []


def _refuse(event: str, _: object) -> None:
    if _running and event in _FORBIDDEN:
        raise RuntimeError(f"{event} in a unit test: move {_running[-1]} to tests/integration")


@pytest.fixture(autouse=True)
def is_pure(request: pytest.FixtureRequest) -> Iterator[None]:
    """Refuse processes and sockets for the length of one test."""
    _running.append(request.node.nodeid)
    yield
    _running.pop()


sys.addaudithook(_refuse)
