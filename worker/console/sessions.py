"""Who is logged in: a signed cookie that names the row of its login.

There are no sessions in memory: they go on after a restart, and any process knows them. A token
that changes ends the sessions of its person.
"""

import base64
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass

from worker.store.operators.audits import AuditStore

_COOKIE = re.compile(r"([A-Za-z0-9_-]{1,400})\.([0-9]{1,18})\.([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A cookie whose signature is good; whether it is over, its rows say."""

    who: str
    login: int
    """The row in `audits`."""
    cookie: str
    csrf: str
    """Each form has it, so that no other site's form is taken for one of ours."""


class Sessions:
    """Begins and reads sessions. `tokens`: by the names of their people; None = a proxy logs in."""

    def __init__(self, audits: AuditStore, tokens: Mapping[str, str] | None) -> None:
        self._audits, self._tokens = audits, tokens

    def has_token(self, who: str, token: str) -> bool:
        """Return whether this is somebody's token."""
        theirs = (self._tokens or {}).get(who)
        # Compared in any case, so that the time does not say who there is.
        is_theirs = hmac.compare_digest(token.encode(), (theirs or "").encode())
        return theirs is not None and is_theirs

    def begin(self, who: str) -> Session:
        """Log somebody in."""
        return self._session(who, self._audits.log_in(who))

    def read(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie; None = it is none of ours."""
        found = _COOKIE.fullmatch(cookie or "")
        if found is None:
            return None
        try:
            who = base64.urlsafe_b64decode(found[1] + "=" * (-len(found[1]) % 4)).decode()
        except ValueError:
            return None
        if self._tokens is not None and who not in self._tokens:
            return None
        session = self._session(who, int(found[2]))
        return session if hmac.compare_digest(session.cookie, found[0]) else None

    def _session(self, who: str, login: int) -> Session:
        name = base64.urlsafe_b64encode(who.encode()).decode().rstrip("=")
        token = self._tokens[who] if self._tokens is not None else ""
        cookie = f"{name}.{login}.{self._signed('session', name, str(login), token)}"
        csrf = self._signed("csrf", cookie)
        return Session(who=who, login=login, cookie=cookie, csrf=csrf)

    def _signed(self, *parts: str) -> str:
        return hmac.digest(self._audits.key, "\0".join(parts).encode(), "sha256").hex()
