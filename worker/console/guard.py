"""What stands before each page: the session, the forms' token, the record of the visit, the log.

GET    a session ─▶ recorded ─▶ shown          no session ─▶ the page to log in
POST   from our own page, with the session's token ─▶ recorded ─▶ done; else nothing changes
"""

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Final
from urllib.parse import parse_qsl, quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from message_worker_client.envelope.wire import MAX_TEXT_BYTES
from worker.console.rendering import render
from worker.console.sessions import Session, Sessions
from worker.console.visit import Page, Visit, go_to
from worker.domain.email.server import LOOPBACK
from worker.domain.errors import (
    DatabaseAwayError,
    NotFoundError,
    RetryableError,
    WorkerError,
    named,
)
from worker.gateway.callers import SourceRate
from worker.gateway.endpoint import Handler, RefusedError, read_body
from worker.handlers.operators.drafts import MAX_NAME
from worker.observability.logs import log
from worker.store.operators.audits import SESSION_S, AuditStore, Subject

MAX_FORM_BYTES: Final = 4 * MAX_TEXT_BYTES
"""Each byte of a text may take three."""
LOGINS_PER_SECOND: Final = 0.5
"""Of one source. Five at once may be wrong; then one every two seconds."""
_MAX_NUMBER: Final = 2**63 - 1
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
        " frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Stands before the pages. `user_header`: names who is logged in; None = tokens do."""

    sessions: Sessions
    audits: AuditStore
    rate: SourceRate
    user_header: str | None
    _one_at_a_time: Lock = field(default_factory=Lock)
    """The rate is not made for threads."""

    def page(self, action: str, work: Page, kind: Subject = Subject.NOTHING) -> Handler:
        """Let those who are logged in to a page or an action; `kind`: what its number names."""

        def answer(request: Request, form: Mapping[str, str]) -> Response:
            session = self._session(request)
            if session is None:
                return self._stranger(request)
            csrf = form.get("csrf", "").encode()
            if request.method == "POST" and not hmac.compare_digest(csrf, session.csrf.encode()):
                fix = "this form is not of your session: load the page again"
                raise RefusedError(403, "csrf", fix)
            subject = int(request.path_params.get("id", 0))
            if subject > _MAX_NUMBER:
                raise RefusedError(404, "id", "there is no such number")
            who = session.who
            if not self.audits.record(session.login, who, action, kind, subject or None):
                return self._stranger(request)
            visit = Visit(
                who=who,
                csrf=session.csrf,
                is_proxied=self.user_header is not None,
                subject=subject,
                query=request.query_params,
                form=form,
            )
            return work(visit)

        return guarded(action, answer)

    def show_login(self, request: Request, _: Mapping[str, str]) -> Response:
        """Show the form."""
        if self.user_header is not None:
            return go_to("/")
        return _login_page(request.query_params.get("next", ""))

    def log_in(self, request: Request, form: Mapping[str, str]) -> Response:
        """Take a token."""
        wanted = form.get("next", "")
        try:
            with self._one_at_a_time:
                self.rate.take(request.client.host if request.client else "")
        except RefusedError:
            log.warning("console.login_slowed")
            return _login_page(wanted, "Too many attempts. Wait some seconds.", 429)
        who = form.get("name", "").strip()
        if not self.sessions.has_token(who, form.get("token", "").strip()):
            log.warning("console.login_refused")
            return _login_page(wanted, "Nobody has this name and this token.", 403)
        return _with_cookie(go_to(_local(wanted)), request, self.sessions.begin(who).cookie)

    def log_out(self, _: Visit) -> Response:
        """End all sessions of a person: the record of it does."""
        response = go_to("/login")
        for name in _NAMES:
            response.delete_cookie(name)
        return response

    def _session(self, request: Request) -> Session | None:
        given = [request.cookies[name] for name in _NAMES if name in request.cookies]
        session = self.sessions.read(given[0] if given else None)
        if self.user_header is None or session is None:
            return session
        return session if session.who == _named(request, self.user_header) else None

    def _stranger(self, request: Request) -> Response:
        """Answer somebody without a session."""
        if request.method == "POST":
            raise RefusedError(403, "session", "it is over: log in, then do it again")
        if request.headers.get("sec-fetch-site") == "cross-site":
            # Browsers keep a strict cookie back when a link of another site is followed. The page
            # that we send now asks for the same again, as our own.
            return render("again.html", here=_here(request))
        if self.user_header is None:
            return RedirectResponse(f"/login?next={quote(_here(request))}", 303)
        who = _named(request, self.user_header)
        answer = go_to(_here(request))
        return _with_cookie(answer, request, self.sessions.begin(who).cookie)


def _named(request: Request, header: str) -> str:
    """Return whom the proxy names. Raises `RefusedError`."""
    who = request.headers.get(header, "").encode("latin-1").decode("utf-8", "replace").strip()
    if not who:
        raise RefusedError(403, "session", "the proxy before this page names nobody")
    # Cut, two people could be one; and what they decide is kept with this name.
    if len(who) > MAX_NAME or not who.isprintable():
        fix = f"let the proxy name people in {header} by at most {MAX_NAME} printable characters"
        raise RefusedError(403, "session", fix)
    return who


def guarded(action: str, work: Callable[[Request, Mapping[str, str]], Response]) -> Handler:
    """Answer refusals and defects with a page, and log: ids, never a text."""

    async def answer(request: Request) -> Response:
        began, fault = time.perf_counter(), None
        form: Mapping[str, str] = {}
        try:
            if request.method == "POST":
                form = await _read_form(request)
            response = await asyncio.to_thread(work, request, form)
        except RefusedError as error:
            fault, response = error.error["fix"], _error_page(error.status, str(error), form)
        except DatabaseAwayError as error:
            fault, response = named(error), _error_page(503, "Postgres does not answer", form)
        except WorkerError as error:
            match error:
                case NotFoundError():
                    status = 404
                case RetryableError():
                    status = 409
                case _:
                    status = 422
            fault, response = named(error), _error_page(status, str(error), form)
        except Exception as error:  # noqa: BLE001 - its text may quote the page
            fault, response = named(error), _error_page(500, "see the log of the console", form)
        response.headers.update(_HEADERS)
        took_ms = round((time.perf_counter() - began) * 1000, 1)
        log.info(
            "console.answered",
            action=action,
            subject=request.path_params.get("id"),
            status=response.status_code,
            ms=took_ms,
            **({} if fault is None else {"fault": fault}),
        )
        return response

    return answer


_NAMES: Final = ("__Host-console", "console")
"""Of the cookie: the first one is taken by browsers only with `Secure`, and from this host."""


def _with_cookie(response: Response, request: Request, cookie: str) -> Response:
    # On this machine itself there is no TLS, and not every browser takes a secure cookie there.
    secure = request.url.hostname not in LOOPBACK
    response.set_cookie(
        _NAMES[0] if secure else _NAMES[1],
        cookie,
        max_age=int(SESSION_S),
        secure=secure,
        httponly=True,
        samesite="strict",
    )
    return response


async def _read_form(request: Request) -> Mapping[str, str]:
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise RefusedError(403, "origin", "this form is of another site")
    kind = request.headers.get("content-type", "").partition(";")[0]
    if kind != "application/x-www-form-urlencoded":
        raise RefusedError(415, "content-type", "send a form")
    body = await read_body(request, limit=MAX_FORM_BYTES)
    try:
        text = body.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise RefusedError(400, "body", "it is no form in UTF-8") from None
    # Postgres stores no NUL, and no keyboard has it.
    return {name: value.replace("\0", "") for name, value in pairs}


def _here(request: Request) -> str:
    query = f"?{request.url.query}" if request.url.query else ""
    return request.url.path + query


def _local(wanted: str) -> str:
    """Return an address of this site only."""
    is_local = wanted.startswith("/") and not wanted.startswith(("//", "/\\"))
    return wanted if is_local and wanted.isprintable() else "/"


def _login_page(wanted: str, fault: str = "", status: int = 200) -> Response:
    return render("login.html", status=status, wanted=_local(wanted), fault=fault)


def _error_page(status: int, fault: str, form: Mapping[str, str]) -> Response:
    # What somebody has written is not lost with the action that was refused.
    return render("error.html", status=status, fault=fault, kept=form.get("text", ""))
