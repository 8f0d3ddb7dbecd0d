"""What a bounce says: whether a mail of ours has failed for good, and with which status."""

import re
from typing import Final

from worker.domain.email.mail import Mail
from worker.domain.email.marks import delivery_of_bounce
from worker.domain.ids import DeliveryId

_LOOKED_AT: Final = 1024 * 1024
_ACTION: Final = re.compile(rb"(?im)^Action:[ \t]*([a-z]{1,20})")
_STATUS: Final = re.compile(rb"(?im)^Status:[ \t]*([45]\.\d{1,3}\.\d{1,3})")
_IN_TEXT: Final = re.compile(r"(?<![\d.])([45]\.\d{1,3}\.\d{1,3})(?![\d.])")
UNKNOWN: Final = "5.0.0"
"""A failure whose status nobody tells (RFC 3463: other undefined status)."""
_NO_FAILURE: Final = frozenset({"message/disposition-notification", "message/feedback-report"})


def bounced_delivery(mail: Mail, key: bytes) -> DeliveryId | None:
    """Return the delivery whose envelope sender this mail was sent to; None = none of ours."""
    to = (mail.smtp.recipient or "", *(one.address for one in mail.recipients))
    found = (delivery_of_bounce(one, key) for one in to)
    return next((one for one in found if one is not None), None)


def failure_of(raw: bytes, mail: Mail) -> str | None:
    """Return the status of a bounce, see RFC 3463; None = it reports no failure, or not yet.

    `5.x.x`: for good. `4.x.x`: the server has given up.
    """
    if not mail.parts.isdisjoint(_NO_FAILURE):
        return None
    document = raw[:_LOOKED_AT]
    if actions := _ACTION.findall(document):
        if b"failed" not in map(bytes.lower, actions):
            return None  # delayed, relayed, delivered
        found = _STATUS.findall(document)
        return max(found).decode("ascii") if found else UNKNOWN
    status = _IN_TEXT.search(mail.plain)
    if status is None:
        return UNKNOWN
    # Without a report, the words "will try again" are all that a delay has.
    return status[1] if status[1].startswith("5") else None
