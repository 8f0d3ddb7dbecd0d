"""A TCP proxy that can cut its connections silently: no FIN, no RST, and no further ACK.

`cut` makes the kernel drop everything that the client sends on them (a socket filter that passes
nothing), like a firewall that has lost a connection. The server sees an ordinary end. New
connections work. Linux only.
"""

import asyncio
import ctypes
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("jump_if_true", ctypes.c_ubyte),
        ("jump_if_false", ctypes.c_ubyte),
        ("value", ctypes.c_uint),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


_DROP_ALL = (_Instruction * 1)(_Instruction(0x06, 0, 0, 0))  # BPF_RET: take 0 bytes


def deafen(sock: socket.socket) -> None:
    """Make the kernel drop every packet that arrives for this socket."""
    program = _Program(1, _DROP_ALL)
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(program))


class SilentProxy:
    """Forwards 127.0.0.1:{port} to a TCP port or a Unix socket."""

    def __init__(self, target: tuple[str, int] | Path) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._live: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._deaf: list[asyncio.StreamWriter] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def cut(self) -> int:
        """Cut all open connections; return their number."""
        return asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(10)

    async def _cut(self) -> int:
        cut, self._live = self._live, []
        for client, server in cut:
            found = client.get_extra_info("socket")
            with socket.socket(fileno=socket.dup(found.fileno())) as same:
                deafen(same)
            self._deaf.append(client)  # kept, so that its end is never sent
            server.close()
        return len(cut)

    def __enter__(self) -> Self:
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=512)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # the sockets are closed in the loop's next turn

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(self._target, Path):
            server = await asyncio.open_unix_connection(self._target)
        else:
            server = await asyncio.open_connection(*self._target)
        pair = (writer, server[1])
        self._live.append(pair)
        self._writers += pair
        with suppress(asyncio.CancelledError):  # of `_end`
            await asyncio.gather(self._pump(reader, server[1]), self._pump(server[0], writer))
        if pair in self._live:
            self._live.remove(pair)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        if sink not in self._deaf:
            sink.close()
