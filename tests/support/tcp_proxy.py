"""A TCP proxy that can be ill: between a worker and Redis, Postgres or Telnyx.

    with TcpProxy(("127.0.0.1", 6379)) as proxy:     # or the path of a Unix socket
        ...                                          # clients connect to 127.0.0.1:{proxy.port}
        proxy.mode = Mode.BLACK_HOLE                 # at any time, connections live on

    PASS           bytes go both ways
    REFUSE         nobody listens: a new connection gets ECONNREFUSED; live ones go on
    BLACK_HOLE     connections are accepted, nothing is forwarded, not even an end (no FIN)
    DROP_ANSWERS   requests arrive, what comes back vanishes
    DROP_REQUESTS  the reverse

A connection that lost bytes is reset once the mode changes: its stream has a hole. What a black
hole held back is forwarded afterwards, as TCP would send it again. `strand()` is for good: live
connections become half-open, new ones work.
"""

import contextlib
import ctypes
import re
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from tests.support.world import HandDrivenWorker, World
from worker.config.settings import Settings

Target = tuple[str, int] | Path
_CHUNK_BYTES = 65536
_LET_GO_S = 5.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_SO_ATTACH_FILTER = 26
_DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
"""A packet filter of one instruction: return 0. What it drops the kernel does not acknowledge."""


class Mode(Enum):
    """How ill the proxy is."""

    PASS = auto()
    REFUSE = auto()
    BLACK_HOLE = auto()
    DROP_ANSWERS = auto()
    DROP_REQUESTS = auto()


@dataclass(eq=False)
class _Connection:
    client: socket.socket
    server: socket.socket
    lossy: bool = False
    stranded: bool = False
    cut_at_answer: bool = False
    ended: int = 0
    """How many of its two directions are over."""

    def strand(self) -> None:
        """Drop what the client sends, before the kernel acknowledges it, and what the server says.

        Reading and forgetting it would not do: the client's kernel would think that it arrived.
        """
        self.stranded = True
        program = struct.pack("HP", 1, ctypes.addressof(_DROP_ALL))
        self.client.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def reset(self) -> None:
        """Close both sides with RST instead of FIN (a Unix socket knows only its end)."""
        for sock in (self.client, self.server):
            with contextlib.suppress(OSError):
                if sock.family == socket.AF_INET:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                # A thread that reads keeps the descriptor busy, so rouse it first.
                sock.shutdown(socket.SHUT_RD)
            sock.close()


@dataclass
class _Cut:
    """The answer to the next request that matches is lost, and its connection with it."""

    pattern: re.Pattern[bytes]
    skip: int
    happened: threading.Event = field(default_factory=threading.Event)


class TcpProxy:
    """Forwards to `target`; every method may be called from any thread."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._mode = Mode.PASS
        self._changed = threading.Condition()
        self._connections: set[_Connection] = set()
        self._cuts: list[_Cut] = []
        self._reserved: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._port = 0
        self._closed = False
        self.accepted = 0
        """How many connections there were."""

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1; stays the same."""
        return self._port

    @property
    def mode(self) -> Mode:
        """How ill it is now."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        with self._changed:
            before, self._mode = self._mode, mode
            lossy = [each for each in self._connections if each.lossy]
            self._changed.notify_all()
        for connection in lossy if mode is not before else ():
            self._drop(connection)
        if mode is Mode.REFUSE:
            self._stop_listening()
        elif self._listener is None:
            self._listen()

    def reset_all(self) -> None:
        """Reset every live connection, both sides, and return when the resets are sent.

        New ones may come.
        """
        with self._changed:
            connections = list(self._connections)
        for connection in connections:
            self._drop(connection)
        with self._changed:
            # A thread that still reads holds the socket open: the kernel resets after it. A client
            # that sends before that gets no refusal, but an end in the middle of its request.
            self._changed.wait_for(lambda: all(it.ended == 2 for it in connections), _LET_GO_S)

    def retarget(self, target: Target) -> None:
        """Lead new connections elsewhere, as an address that moves with a failover does."""
        self._target = target

    def strand(self) -> None:
        """Make every live connection half-open for good, as a router that has forgotten it does.

        What either side sends vanishes, its end as well. New connections work.
        """
        with self._changed:
            for connection in self._connections:
                connection.strand()

    def lose_answer_to(self, pattern: bytes, *, skip: int = 0) -> threading.Event:
        """Lose the answer to the next request whose bytes match, after `skip` that may pass.

        The request is carried out: the connection is reset when its answer arrives here. The event
        is set then.
        """
        cut = _Cut(re.compile(pattern, re.DOTALL), skip)
        with self._changed:
            self._cuts.append(cut)
        return cut.happened

    def __enter__(self) -> Self:
        # Bound for as long as the proxy lives: while nobody listens, another test's server would
        # be given this port, and would answer instead of the kernel's refusal.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self._port = self._reserved.getsockname()[1]
        self._listen()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._stop_listening()
        self.reset_all()
        if self._reserved is not None:
            self._reserved.close()

    def _listen(self) -> None:
        self._listener = listener = socket.create_server(("127.0.0.1", self._port), backlog=512)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._begin, args=(client,), daemon=True).start()

    def _begin(self, client: socket.socket) -> None:
        self._await_no_black_hole()  # one that connects meanwhile is accepted and hears nothing
        try:
            server = self._dial()
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            client.close()
            return
        connection = _Connection(client, server)
        with self._changed:
            self._connections.add(connection)
        if self._closed:
            connection.ended = 2
            self._drop(connection)
            return
        threading.Thread(target=self._requests, args=(connection,), daemon=True).start()
        threading.Thread(target=self._answers, args=(connection,), daemon=True).start()

    def _dial(self) -> socket.socket:
        if not isinstance(self._target, Path):
            return socket.create_connection(self._target)
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self._target))
        except OSError:
            server.close()
            raise
        return server

    def _requests(self, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            for data in self._read(connection, connection.client):
                self._mark_cut(connection, data)
                if self._mode is Mode.DROP_REQUESTS:
                    connection.lossy = True
                else:
                    connection.server.sendall(data)
        self._end(connection, connection.server)

    def _answers(self, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            for data in self._read(connection, connection.server):
                if connection.cut_at_answer:
                    self._cut(connection)
                    break
                if self._mode is Mode.DROP_ANSWERS:
                    connection.lossy = True
                else:
                    connection.client.sendall(data)
        self._end(connection, connection.client)

    def _read(self, connection: _Connection, source: socket.socket) -> Iterator[bytes]:
        while True:
            data = source.recv(_CHUNK_BYTES)
            self._await_no_black_hole(connection)
            if not data or connection not in self._connections:
                return
            if not connection.stranded:
                yield data

    def _await_no_black_hole(self, connection: _Connection | None = None) -> None:
        def is_over() -> bool:
            dropped = connection is not None and connection not in self._connections
            return self._mode is not Mode.BLACK_HOLE or self._closed or dropped

        with self._changed:
            self._changed.wait_for(is_over)

    def _mark_cut(self, connection: _Connection, data: bytes) -> None:
        with self._changed:
            for cut in self._cuts:
                if not cut.pattern.search(data):
                    continue
                if cut.skip:
                    cut.skip -= 1
                    continue
                connection.cut_at_answer = True
                return

    def _cut(self, connection: _Connection) -> None:
        with self._changed:
            for cut in [each for each in self._cuts if not each.skip]:
                self._cuts.remove(cut)
                cut.happened.set()
        self._drop(connection)  # last: one that notices asks whether it happened

    def _end(self, connection: _Connection, sink: socket.socket) -> None:
        """Hand an end on (FIN); with both directions over, let go."""
        if not connection.stranded:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
        with self._changed:
            connection.ended += 1
            over = connection.ended == 2 and connection in self._connections
            if over:
                self._connections.discard(connection)
            self._changed.notify_all()
        if over:
            connection.client.close()
            connection.server.close()

    def _drop(self, connection: _Connection) -> None:
        with self._changed:
            self._connections.discard(connection)
            self._changed.notify_all()
        connection.reset()


def postgres_socket(url: str) -> Path:
    """Give the Unix socket of an EmbeddedPostgres."""
    folder = re.search(r"host=([^&]+)", url)
    if folder is None:
        raise ValueError("the URL names no socket")
    return Path(unquote(folder[1])) / ".s.PGSQL.5432"


def through(proxy: TcpProxy, url: str) -> str:
    """Give the SQLAlchemy URL of an EmbeddedPostgres' database, by way of the proxy."""
    path = urlsplit(url).path
    return f"postgresql://postgres@127.0.0.1:{proxy.port}{path}"


@dataclass(kw_only=True)
class _Detour(World):
    """The same world, whose workers go another way."""

    changes: dict[str, str]

    def settings(self, agents_file: Path | None = None) -> Settings:
        return replace(super().settings(agents_file), **self.changes)


def worker_through(
    world: World,
    config: str = "",
    *,
    telnyx: TcpProxy | None = None,
    postgres: TcpProxy | None = None,
    **options: Any,  # noqa: ANN401 - those of `World.worker`
) -> HandDrivenWorker:
    """Start a worker of this world whose connections go through proxies."""
    changes = {}
    if telnyx is not None:
        changes["telnyx_base_url"] = f"http://127.0.0.1:{telnyx.port}/v2"
    if postgres is not None:
        changes["database_url"] = through(postgres, world.database.url)
    same = {each.name: getattr(world, each.name) for each in fields(world)}
    return _Detour(**same, changes=changes).worker(config, **options)


def telnyx_of(world: World) -> Target:
    """Give where the simulator listens."""
    parts = urlsplit(world.simulator.root_url)
    return (parts.hostname or "", parts.port or 0)
