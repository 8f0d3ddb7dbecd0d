# ruff: noqa: PLC0415 - modules of commands import this one, and --help must be quick
"""The service as operators' commands use it, and the channel user that a command names."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from worker.cli.errors import CommandError, MisuseError

if TYPE_CHECKING:
    from worker.bootstrap.operator import Operator
    from worker.domain.ids import ChannelUserId

_RETRY_EVERY_S: Final = 0.2
_Result = TypeVar("_Result")


@contextmanager
def an_operator() -> "Iterator[Operator]":
    """Build the use cases of operators. Raises `SettingsError`."""
    from worker.bootstrap.operator import Operator
    from worker.config.settings import load_settings
    from worker.observability.logs import log_warnings_only

    log_warnings_only()
    operator = Operator(load_settings())
    try:
        yield operator
    finally:
        operator.close()


class NobodyError(CommandError):
    """There is no such channel user."""


def users_named(
    operator: "Operator", who: str, *, recipient: str | None = None
) -> "tuple[ChannelUserId, ...]":
    """Return the users that `who` names, an id or CHANNEL:ADDRESS. Raises `CommandError`."""
    channel, colon, address = who.partition(":")
    if not colon and not who.isdecimal():
        raise MisuseError("name a channel user by id, or as CHANNEL:ADDRESS")
    found = (
        operator.users.find(channel=channel, address=address, recipient=recipient)
        if colon
        else operator.users.find(user_id=int(who))
    )
    if not found:
        raise NobodyError("there is no such channel user")
    return found


def one_user(operator: "Operator", who: str, *, recipient: str | None = None) -> "ChannelUserId":
    """Return the one user that `who` names. Raises `CommandError`."""
    found = users_named(operator, who, recipient=recipient)
    if len(found) > 1:
        ids = ", ".join(map(str, found))
        raise CommandError(f"several fit (other recipients or threads): choose one of {ids}")
    return found[0]


def until_free(attempt: Callable[[], _Result], *, wait_s: float) -> _Result:
    """Repeat while a worker or Telnyx is busy with the user, for at most `wait_s`.

    Raises `NotNowError`, at once if the wait would take longer.
    """
    from worker.handlers.operators.take_user import NotNowError

    deadline = time.monotonic() + wait_s
    while True:
        try:
            return attempt()
        except NotNowError as error:
            pause_s = error.retry_after_s or _RETRY_EVERY_S
            if time.monotonic() + pause_s > deadline:
                raise
            time.sleep(pause_s)
