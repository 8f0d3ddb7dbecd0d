"""Signs of a machine in the headers of a mail."""

import re
from typing import Final

from worker.domain.email.mail import Mail

COMMENT: Final = re.compile(r"\([^()]*\)")
_DMARC: Final = re.compile(r"dmarc\s?(?:/\s?\d{1,3}\s?)?=\s?([a-z]+)")


def suppresses_replies(mail: Mail) -> bool:
    """Whether X-Auto-Response-Suppress asks for no automatic reply.

    Exchange sets it on mails of people, too. `DR`, `RN` and `NRN` are about receipts.
    """
    words = re.split(r"[\s,;]+", mail.header("x-auto-response-suppress"))
    return not {"all", "autoreply", "oof"}.isdisjoint(words)


def dmarc(mail: Mail, authserv_id: str | None) -> str | None:
    """Return the receiving server's verdict, such as `pass`, see RFC 8601; None = it gave none.

    Only headers with the server's own id count: anybody can write the others. The topmost result
    counts, because the server adds its own on top.
    """
    for value in mail.headers.get("authentication-results", ()) if authserv_id else ():
        head, *results = COMMENT.sub(" ", value.lower()).split(";")
        if authserv_id is None or head.split()[:1] != [authserv_id.lower()]:
            continue
        for one in results:
            if found := _DMARC.match(one.strip()):
                return found[1]
    return None
