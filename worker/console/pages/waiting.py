"""The first page: what waits for one of our staff."""

from typing import Final

from starlette.responses import Response

from worker.console.desk import Desk
from worker.console.visit import Visit
from worker.store.reports.threads import LISTED

_DRAFTS: Final = 100


def show(desk: Desk, visit: Visit) -> Response:
    """Show all that waits, the longest wait first."""
    drafts = desk.drafts.waiting(limit=_DRAFTS)
    return visit.show(
        "waiting.html",
        drafts=drafts,
        names=desk.threads.named([one.user for one in drafts]),
        paused=desk.threads.paused(),
        diverged=desk.threads.diverged(),
        letters=desk.letters.find(limit=LISTED),
        all_letters=len(desk.letters.unresolved(None)),
    )
