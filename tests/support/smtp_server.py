# ruff: noqa: ARG002, ANN401 - hooks of aiosmtpd
"""A real SMTP server that answers, refuses, is silent or hangs up as the test wants."""

import asyncio
import ssl
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

SILENT, HANG_UP = "silent", "hang up"
USER, PASSWORD, TOKEN = "help@acme.example", "päss wörd:@/", "ya29.token"


@dataclass
class Mailbox:
    """What the server does and has. `answers`: by phase, each used once; the last one stays."""

    answers: dict[str, list[str]] = field(default_factory=dict)
    mails: list[Envelope] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    """Phases, of all connections."""
    connections: int = 0
    encrypted: list[bool] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    transports: list[asyncio.Transport] = field(default_factory=list)

    def parsed(self) -> list[EmailMessage]:
        made = [message_from_bytes(one.content or b"", policy=policy.default) for one in self.mails]
        return [one for one in made if isinstance(one, EmailMessage)]

    async def _play(self, phase: str, server: SMTP) -> str | None:
        self.seen.append(phase)
        planned = self.answers.get(phase, [])
        answer = (planned.pop(0) if len(planned) > 1 else planned[0]) if planned else ""
        if answer == SILENT:
            await asyncio.sleep(3600)
        if answer == HANG_UP:
            server.transport.abort()
            await asyncio.sleep(3600)
        return answer or None

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, host: str, said: list[str]
    ) -> list[str]:
        session.host_name = host
        if planned := await self._play("EHLO", server):
            return [planned]
        return said

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if planned := await self._play("MAIL", server):
            return planned
        envelope.mail_from, envelope.mail_options = address, options
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if planned := await self._play("RCPT", server):
            return planned
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_RSET(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        return await self._play("RSET", server) or "250 OK"

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Called when the end has come."""
        if self.answers.get("end", [""])[0][:1] not in {"4", "5"}:
            self.mails.append(envelope)
            self.encrypted.append(server.transport.get_extra_info("ssl_object") is not None)
        return await self._play("end", server) or "250 OK queued as 4Zq1X"

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        """PLAIN and LOGIN."""
        assert isinstance(data, LoginPassword)
        good = data.login == USER.encode() and data.password == b"secret"
        self.users.append(data.login.decode())
        return AuthResult(success=good, handled=False)

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        told = b64decode(args[1]) if len(args) > 1 else b""
        self.users.append(told.decode())
        if told == f"user={USER}\1auth=Bearer {TOKEN}\1\1".encode():
            return AuthResult(success=True)
        asked = await server.challenge_auth("eyJzdGF0dXMiOiI0MDEifQ==", encode_to_b64=False)
        assert asked == b""
        return AuthResult(success=False, handled=False)


class _Server(SMTP):
    """Counts connections, and plays the phases that aiosmtpd has no hook for."""

    box: Mailbox

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.session is None:
            self.box.connections += 1
        assert isinstance(transport, asyncio.Transport)
        self.box.transports.append(transport)
        super().connection_made(transport)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        if planned := await self.box._play("DATA", self):
            await self.push(planned)
            return
        await super().smtp_DATA(arg)


@contextmanager
def smtp_server(
    box: Mailbox,
    *,
    starttls: ssl.SSLContext | None = None,
    tls: ssl.SSLContext | None = None,
    utf8: bool = True,
) -> Iterator[int]:
    """Serve on a port of 127.0.0.1, which is given."""

    def made() -> SMTP:
        server = _Server(
            box,
            hostname="mail.test",
            enable_SMTPUTF8=utf8,
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=box.authenticate,
            auth_require_tls=False,
            timeout=60,
            loop=loop,
        )
        server.box = box
        return server

    loop = asyncio.new_event_loop()
    serving = threading.Thread(target=loop.run_forever, daemon=True)
    serving.start()
    creating = loop.create_server(made, "127.0.0.1", 0, ssl=tls)
    server = asyncio.run_coroutine_threadsafe(creating, loop).result()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_ended(server, box), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        serving.join()
        loop.close()


async def _ended(server: asyncio.Server, box: Mailbox) -> None:
    server.close()
    for transport in box.transports:
        transport.abort()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0.01)
