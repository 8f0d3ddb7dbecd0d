"""Builds the console: from settings to its application."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from starlette.applications import Starlette

from worker.bootstrap.operator import Operator
from worker.config.settings import Settings
from worker.console.app import build_app
from worker.console.desk import Desk
from worker.console.guard import LOGINS_PER_SECOND, Guard
from worker.console.sessions import Sessions
from worker.domain.errors import SettingsError
from worker.domain.reports.explain_waiting import explain
from worker.gateway.callers import SourceRate
from worker.handlers.background.schema import check_schema, start_on_postgres
from worker.store.operators.audits import AuditStore
from worker.store.reports.message_history import MessageReports
from worker.store.reports.threads import ThreadStore
from worker.store.revisions import RevisionStore

_POOL_SIZE: Final = 8
"""As many pages as are made at once, and a probe."""


@dataclass(frozen=True, kw_only=True)
class Console:
    """The application of a process."""

    app: Starlette
    check_schema: Callable[[], None]
    """Waits for Postgres. Raises `SystemExit` if migrations are missing."""
    close: Callable[[], None]


def build_console(settings: Settings) -> Console:
    """Build it; connects to nothing yet. Raises `SettingsError`."""
    tokens, header = settings.console_tokens, settings.console_user_header
    if (tokens is None) == (header is None):
        raise SettingsError(
            "CONSOLE_TOKENS: give NAME:TOKEN of each person; or, behind a reverse proxy that logs"
            " them in, CONSOLE_USER_HEADER alone"
        )
    operator = Operator(settings, pool_size=_POOL_SIZE, name="worker-console")
    audits = AuditStore(operator.database)
    guard = Guard(
        sessions=Sessions(audits, tokens),
        audits=audits,
        rate=SourceRate(LOGINS_PER_SECOND),
        user_header=header,
    )
    desk = _desk(operator)
    return Console(
        app=build_app(guard, desk, {"postgres": desk.threads.paused}),
        check_schema=lambda: start_on_postgres(
            partial(check_schema, RevisionStore(operator.database))
        ),
        close=operator.close,
    )


def _desk(operator: Operator) -> Desk:
    """Build the use cases behind the pages, all at once: threads share them."""
    _ = operator.telnyx
    routing = operator.routing
    return Desk(
        threads=ThreadStore(operator.database),
        users=operator.users,
        recent=operator.recent,
        messages=MessageReports(operator.database),
        explain=partial(explain, routing=routing, timing=operator.timing),
        tools=routing.tools,
        drafts=operator.drafts,
        letters=operator.dead_letters,
        replay=operator.replay,
        consents=operator.consents,
        say=operator.say,
        set_paused=operator.set_paused,
    )
