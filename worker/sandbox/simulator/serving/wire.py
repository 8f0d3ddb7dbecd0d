"""Putting an answer on the wire, or not, or not all of it."""

import asyncio
import hashlib
import socket
import struct
from collections.abc import Sequence
from typing import Literal

from aiohttp import web

from worker.sandbox.simulator.behaviour.plans import Wire
from worker.sandbox.simulator.endpoints.answers import Answer
from worker.sandbox.simulator.record.events import AnswerDropped, AnswerSent
from worker.sandbox.simulator.state.state import Exchange, State

_LINGER_NOT = struct.pack("ii", 1, 0)


class Delivery:
    """One answer's way back to its client."""

    def __init__(self, state: State, exchange: Exchange, request: web.Request) -> None:
        self._state = state
        self._exchange = exchange
        self._request = request
        self._written = 0

    async def put(self, answer: Answer | None) -> web.StreamResponse:
        """Deliver as the plan wants; return the response that aiohttp needs to go on."""
        match self._exchange.plan.wire:
            case Wire.DROP:
                return self._drop(answer)
            case Wire.RESET:
                return self._drop(answer, reset=True)
            case Wire.TRUNCATED if answer is not None:
                whole = answer.body or b"".join(answer.chunks)
                return await self._whole(Answer(body=whole[: len(whole) // 2]))
            case Wire.EMPTY if answer is not None:
                return await self._whole(Answer())
            case Wire.HANG:
                answer = None
            case _:
                pass
        if answer is None:
            await self._state.departures.wait(self._exchange.gone)
            return self._drop(None)
        return await self._whole(answer)

    def give_up(self) -> None:
        """Write down that the simulator stopped before the answer was out."""
        self._dropped("shutdown", None)

    async def _whole(self, answer: Answer) -> web.StreamResponse:
        if self._exchange.gone():
            self._dropped("client_left", answer)
            return web.Response()
        response = self._head(answer)
        try:
            await response.prepare(self._request)
            complete = await self._write(response, answer)
            if complete:
                await response.write_eof()
        # For a closed connection, aiohttp raises either of these.
        except (ConnectionError, RuntimeError):
            self._dropped("client_left", answer)
            return response
        if not complete:
            self._close()
            self._dropped("fault", answer)
            return response
        body = answer.body or b"".join(answer.chunks)
        self._state.log.append(
            AnswerSent(
                request=self._exchange.number,
                status=answer.status,
                body_bytes=len(body),
                body_digest=hashlib.sha256(body).hexdigest(),
            )
        )
        return response

    def _head(self, answer: Answer) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status)
        if answer.chunks:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(answer.body)
        if answer.body or answer.chunks:
            response.content_type = answer.content_type
        if self._state.config.request_id_header:
            response.headers["x-request-id"] = f"sim-{self._exchange.number}"
        response.headers.extend(answer.headers)
        return response

    async def _write(self, response: web.StreamResponse, answer: Answer) -> bool:
        """Return whether everything was written."""
        pieces = answer.chunks or ((answer.body,) if answer.body else ())
        match self._exchange.plan.wire:
            case Wire.CUT:
                half = pieces[: len(pieces) // 2] or (answer.body[: len(answer.body) // 2],)
                await self._pieces(response, half, 0)
                return False
            case Wire.TRICKLE:
                if not answer.chunks:
                    pieces = tuple(bytes([letter]) for letter in answer.body)
                await self._pieces(response, pieces, self._exchange.plan.interval_s)
            case _:
                await self._pieces(response, pieces, 0)
        return not answer.torn

    async def _pieces(
        self, response: web.StreamResponse, pieces: Sequence[bytes], pause_s: float
    ) -> None:
        for piece in pieces:
            await response.write(piece)
            self._written += len(piece)
            if pause_s:
                await asyncio.sleep(pause_s)

    def _drop(self, answer: Answer | None, *, reset: bool = False) -> web.StreamResponse:
        left = self._exchange.gone()
        self._close(reset=reset)
        self._dropped("client_left" if left else "fault", answer)
        return web.Response()

    def _close(self, *, reset: bool = False) -> None:
        transport = self._request.transport
        if transport is None:
            return
        if reset:
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            transport.abort()
        else:
            transport.close()

    def _dropped(
        self, reason: Literal["client_left", "fault", "shutdown"], answer: Answer | None
    ) -> None:
        self._state.log.append(
            AnswerDropped(
                request=self._exchange.number,
                reason=reason,
                status=None if answer is None else answer.status,
                body_bytes=self._written,
            )
        )
