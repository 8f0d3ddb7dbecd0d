"""`POST /email`: a mail as a mail server has it, with the SMTP envelope in two headers."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from worker.domain.errors import RetryableError, SettingsError, named
from worker.gateway.callers import Callers, SourceRate
from worker.gateway.endpoint import RefusedError, read_body
from worker.handlers.intake.take_mail import MAX_MAIL_BYTES, TakeMail
from worker.observability.logs import log

MAILS_AT_ONCE: Final = 4
"""Each may take twice `MAX_MAIL_BYTES` of memory; the others wait, unread."""
_READ_S: Final = 60.0
_FROM: Final = "X-Envelope-From"
_TO: Final = "X-Envelope-To"
_MAX_RECIPIENTS: Final = 100


@dataclass(frozen=True, kw_only=True)
class Mails:
    """The endpoint."""

    callers: Callers
    rate: SourceRate
    take: TakeMail
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAILS_AT_ONCE))

    async def post(self, request: Request) -> Response:
        """Take one mail; 200 = it is committed, and any other answer = keep it."""
        self.rate.take(request.client.host if request.client else "")
        has_token = self.callers.has_token(request.headers)
        if not (has_token or self.callers.signer):
            self.callers.check_signature(request.headers, b"")  # refuses it, unread
        sender, recipients = _envelope(request.headers)
        async with self._slots:
            body = await read_body(request, limit=MAX_MAIL_BYTES, within_s=_READ_S)
            if not has_token:
                self.callers.check_signature(request.headers, body)
            if not body.strip():
                raise RefusedError(422, "body", "give the mail as SMTP carries it (RFC 5322)")
            try:
                taken = await asyncio.to_thread(
                    self.take.take_for, body, sender=sender, recipients=recipients
                )
            except SettingsError as error:
                raise RefusedError(503, "service", str(error)) from None
            except RetryableError as error:
                log.warning("gateway.commit_failed", error=named(error))
                raise RefusedError(503, "service", "Postgres does not answer") from None
        request.scope["ids"]["task"] = taken.task and str(taken.task)
        return JSONResponse({"id": taken.task and str(taken.task), "rule": taken.rule})


def _envelope(headers: Headers) -> tuple[str, list[str]]:
    """Return sender and recipients. Raises `RefusedError`."""
    senders = list(_addresses(headers, _FROM))
    if len(senders) != 1:
        raise RefusedError(422, _FROM, "give the address of MAIL FROM, once; <> if it is empty")
    recipients = list(_addresses(headers, _TO))
    if not 1 <= len(recipients) <= _MAX_RECIPIENTS or "" in recipients:
        fix = f"give each address of RCPT TO in a header of its own, at most {_MAX_RECIPIENTS}"
        raise RefusedError(422, _TO, fix)
    return senders[0], recipients


def _addresses(headers: Headers, name: str) -> Iterator[str]:
    for value in headers.getlist(name):
        # A proxy may have joined them.
        for one in value.split(","):
            text = one.strip().encode("latin-1").decode("utf-8", "replace")
            path = text.removeprefix("<").removesuffix(">")
            local, _, domain = path.rpartition("@")
            if path and not (local and domain and path.split() == [path]):
                raise RefusedError(422, name, "give an address such as ada@example.org")
            yield path
