"""Signs of a machine in the headers of a mail."""

import re
from typing import Final

from worker.domain.email.mail import Mail

COMMENT: Final = re.compile(r"\([^()]*\)")
_RESULT: Final = re.compile(r"(?<![\w-])([\w-]+)\s?(?:/\s?\d{1,3}\s?)?=\s?([a-z]+)")


def suppresses_replies(mail: Mail) -> bool:
    """Whether X-Auto-Response-Suppress asks for no automatic reply.

    Exchange sets it on mails of people, too. `DR`, `RN` and `NRN` are about receipts.
    """
    words = re.split(r"[\s,;]+", mail.header("x-auto-response-suppress"))
    return not {"all", "autoreply", "oof"}.isdisjoint(words)


def authentication(mail: Mail, authserv_id: str | None) -> dict[str, str]:
    """Return the results of the receiving server, such as `{"dmarc": "pass"}`, see RFC 8601.

    Only headers with the server's own id count: anybody can write the others. Of one method the
    topmost result counts, because the server adds its own on top.
    """
    found: dict[str, str] = {}
    for value in mail.headers.get("authentication-results", ()) if authserv_id else ():
        head, *results = COMMENT.sub(" ", value.lower()).split(";")
        if authserv_id is None or head.split()[:1] != [authserv_id.lower()]:
            continue
        for one in results:
            if result := _RESULT.match(one.strip()):
                found.setdefault(result[1], result[2])
    return found
