"""Builds the console: from settings to its application."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.applications import Starlette

from worker.bootstrap.operator import Operator
from worker.config.settings import Settings
from worker.console.app import build_app
from worker.console.guard import LOGINS_PER_SECOND, Guard
from worker.console.sessions import Sessions
from worker.domain.errors import SettingsError
from worker.gateway.callers import SourceRate

_POOL_SIZE: Final = 8
"""As many pages as are made at once, and a probe."""


@dataclass(frozen=True, kw_only=True)
class Console:
    """The application of a process."""

    app: Starlette
    check_schema: Callable[[], None]
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
    audits = operator.audits
    guard = Guard(
        sessions=Sessions(audits, tokens),
        audits=audits,
        rate=SourceRate(LOGINS_PER_SECOND),
        user_header=header,
    )
    desk = operator.desk()
    app = build_app(guard, desk, {"postgres": desk.threads.paused})
    return Console(app=app, check_schema=operator.check_schema, close=operator.close)
