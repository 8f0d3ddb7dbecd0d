"""What an SMTP server's refusal comes to.

before MAIL          NotDelivered, and the channel rests: an operator has to act, or the server
MAIL 5xx             the same: it is about our address
4xx                  NotDelivered; minutes later, because greylisting counts in minutes
5xx, nobody there    Rejected, and the address gets no further mail
other 5xx            Rejected
"""

from typing import Final

from worker.channels.email.delivery.session import RefusedError
from worker.domain.deliveries import NotDelivered, Pause, Rejected

LATER_S: Final = 300.0
REST_S: Final = 300.0
"""An operator has to act. One attempt after each rest finds out whether they have."""
AWAY_S: Final = 30.0
_REFUSED_FOR_GOOD: Final = 500
GONE: Final = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
"""Status codes of RFC 3463 that say: nobody has this address, or nobody any more."""


def judge(refused: RefusedError) -> NotDelivered | Rejected:
    """Return the outcome; the reason has the codes and no text."""
    reason, for_good = f"smtp {refused}", refused.code >= _REFUSED_FOR_GOOD
    if not refused.of_a_mail or (refused.phase == "MAIL" and for_good):
        return resting(reason)
    if for_good:
        return Rejected(reason=reason, gone=refused.status in GONE)
    return NotDelivered(reason=reason, retry_after_s=LATER_S)


def resting(reason: str, seconds: float = REST_S) -> NotDelivered:
    """Return the outcome if no mail at all can leave."""
    return NotDelivered(reason=reason, pause=Pause(scope="channel", seconds=seconds))
