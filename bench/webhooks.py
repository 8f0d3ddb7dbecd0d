"""Sends signed webhooks over connections that stay open, each after the answer to the last."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.telnyx_events import signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The answers to one load."""

    seconds: float
    took_ms: tuple[float, ...]
    """Of each request."""


def request_of(body: bytes) -> bytes:
    """Return a request as it goes over the connection."""
    headers = {"host": "gateway", "content-length": str(len(body)), **signed(body)}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /telnyx/messaging HTTP/1.1\r\n{head}\r\n".encode() + body


def send(port: int, requests: Sequence[bytes], *, connections: int) -> Sent:
    """Send all. Raises `RuntimeError` if an answer is not 200."""
    return asyncio.run(_send(port, requests, connections))


async def _send(port: int, requests: Sequence[bytes], connections: int) -> Sent:
    left = list(reversed(requests))
    took_ms: list[float] = []

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while left:
            began = time.perf_counter()
            writer.write(left.pop())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 ") or b"content-length: 0\r\n" not in head:
                raise RuntimeError(f"answered {head[:60]!r}")
            took_ms.append((time.perf_counter() - began) * 1000)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one_connection() for _ in range(connections)))
    return Sent(seconds=time.perf_counter() - began, took_ms=tuple(took_ms))
