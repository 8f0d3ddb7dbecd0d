"""Calls an ASGI application without a server, as a test or a fuzzer does thousands of times."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from starlette.applications import Starlette


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 # JSON
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    method: str = "POST"
    path: str
    body: bytes | Sequence[bytes] = b""
    """Several = it comes in pieces, without a length."""
    headers: Mapping[str, str] = field(default_factory=dict)
    client: str = "192.0.2.1"


class Asgi:
    """One application on one event loop."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def __call__(self, path: str, body: bytes | Sequence[bytes] = b"", **more: Any) -> Answer:  # noqa: ANN401
        """Send one request."""
        (answer,) = self.at_once([Call(path=path, body=body, **more)])
        return answer

    def at_once(self, calls: Sequence[Call]) -> Sequence[Answer]:
        """Send several at the same time; each answer in the place of its request."""

        async def send_all() -> Sequence[Answer]:
            return await asyncio.gather(*map(self._send, calls))

        return self._runner.run(send_all())

    async def _send(self, call: Call) -> Answer:
        whole = isinstance(call.body, bytes)
        pieces = [call.body] if isinstance(call.body, bytes) else list(call.body)
        headers = dict(call.headers)
        if whole:
            headers.setdefault("content-length", str(len(pieces[0])))
        left = [
            {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
            for number, piece in enumerate(pieces, start=1)
        ]
        sent: list[Any] = []
        path, _, query = call.path.partition("?")

        async def receive() -> Any:  # noqa: ANN401 # ASGI
            return left.pop(0) if left else {"type": "http.disconnect"}

        async def send(message: Any) -> None:  # noqa: ANN401 # ASGI
            sent.append(message)

        await self._app(
            {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "method": call.method,
                "scheme": "http",
                "path": path,
                "raw_path": path.encode(),
                "query_string": query.encode(),
                "root_path": "",
                "headers": [
                    (name.lower().encode(), text.encode()) for name, text in headers.items()
                ],
                "client": (call.client, 4711),
                "server": ("gateway", 80),
            },
            receive,
            send,
        )
        start, *rest = sent
        return Answer(
            status=start["status"],
            headers={name.decode(): text.decode() for name, text in start["headers"]},
            body=b"".join(one.get("body", b"") for one in rest),
        )
