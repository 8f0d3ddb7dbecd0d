"""`worker erase`: everything about one channel user is removed, here and at Telnyx."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import typer

from worker.bootstrap.operator import Operator
from worker.cli.console import print_json, print_line
from worker.cli.errors import MISUSED, CommandError
from worker.cli.operators.dead_letters import an_operator, one_user
from worker.cli.operators.queue_entries import queue_entries
from worker.cli.settings import all_settings
from worker.domain.errors import DatabaseAwayError, RetryableError
from worker.domain.ids import ChannelUserId
from worker.handlers.operators.take_user import NotNowError
from worker.handlers.privacy.erase import Waiting

_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class HowToErase:
    """The flags of `worker erase`."""

    yes: bool
    dry_run: bool
    wait_s: float
    as_json: bool


def run(who: str, how: HowToErase) -> None:
    """Erase; exit code 0 = nothing of him is left here or at Telnyx."""
    with an_operator() as operator, queue_entries(all_settings().broker_url) as waiting:
        user_id = one_user(operator, who)
        found = operator.erase.count(user_id, waiting)
        if how.dry_run:
            _tell(user_id, "would_be_removed", found, as_json=how.as_json)
            return
        if not how.yes:
            _ask(user_id, found)
        try:
            removed = _erased(operator, user_id, waiting, how.wait_s)
        except DatabaseAwayError:
            raise
        except RetryableError as error:  # "not now", or Telnyx's; it says what to do
            raise CommandError(f"{error}. Meanwhile nothing of his is answered") from None
    _tell(user_id, "removed", removed, as_json=how.as_json)


def _ask(user_id: ChannelUserId, found: Mapping[str, int]) -> None:
    if not sys.stdin.isatty():
        raise CommandError("this cannot be undone: give --yes", exit_code=MISUSED)
    question = f"Erase channel user {user_id} for good ({_listed(found)})?"
    if not typer.confirm(question, err=True):
        raise CommandError("nothing was removed")


def _erased(
    operator: Operator, user_id: ChannelUserId, waiting: Waiting, wait_s: float
) -> dict[str, int]:
    """Try until whoever works on him has ended; what takes longer is refused."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return operator.erase(user_id, waiting)
        except NotNowError as error:
            pause_s = error.retry_after_s or _LOOK_EVERY_S
            if time.monotonic() + pause_s > deadline:
                raise
            time.sleep(pause_s)


def _tell(user_id: ChannelUserId, verb: str, counts: Mapping[str, int], *, as_json: bool) -> None:
    if as_json:
        print_json({"user": user_id, verb: counts})
        return
    said = "is erased; removed" if verb == "removed" else "has"
    print_line(f"channel user {user_id} {said}: {_listed(counts)}")


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in counts.items())
