"""Dead letters: list, show, replay, dismiss."""

from typing import Final

from starlette.responses import Response

from worker.console.desk import Desk
from worker.console.visit import Visit, go_to, missing
from worker.domain.ids import DeadLetterId
from worker.domain.reasons import DeadLetterReason
from worker.domain.states import Resolution
from worker.handlers.operators.take_user import NotPossibleError
from worker.store.dead_letters import DeadLetter

_LISTED: Final = 100
_SHOWN_BYTES: Final = 20_000
_WRONG_NAMES: Final = (DeadLetterReason.UNKNOWN_AGENT, DeadLetterReason.UNKNOWN_ROUTE)


def list_all(desk: Desk, visit: Visit) -> Response:
    """List those that are open, the oldest first."""
    letters = desk.letters.find(limit=_LISTED)
    open_ones = len(desk.letters.unresolved(None))
    return visit.show("letters.html", letters=letters, open_ones=open_ones)


def show(desk: Desk, visit: Visit) -> Response:
    """Show one, with its bytes: they are what somebody wrote."""
    letter = _letter(desk, visit)
    raw = None if letter.raw is None else letter.raw[:_SHOWN_BYTES].decode("utf-8", "replace")
    wrong_names = letter.reason in _WRONG_NAMES
    return visit.show("letter.html", letter=letter, raw=raw, wrong_names=wrong_names)


def replay(desk: Desk, visit: Visit) -> Response:
    """Give it another chance."""
    letter = _letter(desk, visit)
    names = {name: visit.given(name) for name in ("agent", "reply_to") if visit.given(name)}
    desk.replay(letter.id, **names)
    return go_to("/dead-letters?done=replayed")


def dismiss(desk: Desk, visit: Visit) -> Response:
    """Close it for good."""
    letter = _letter(desk, visit)
    if not desk.letters.resolve(letter.id, Resolution.DISMISSED):
        raise NotPossibleError(f"somebody has just dealt with dead letter {letter.id}")
    return go_to("/dead-letters?done=dismissed")


def _letter(desk: Desk, visit: Visit) -> DeadLetter:
    letter = desk.letters.get(DeadLetterId(visit.subject))
    if letter is None:
        raise missing("dead letter")
    return letter
