"""Delivers by SMTP: one mail, one recipient, one transaction.

refused before MAIL               NotDelivered, and the channel rests: an operator has to act, or
                                  the server
refused by MAIL with 5xx          the same: it is about our address
refused later with 4xx            NotDelivered; minutes later, as greylisting counts in minutes
5xx, nobody there                 Rejected, and the address gets no further mail
other 5xx                         Rejected
anything before the end was sent  NotDelivered: a server drops what has no end
silence after it                  Unclear: never sent again without a person's word
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from smtplib import SMTPException, SMTPNotSupportedError
from typing import ClassVar, Final

from worker.channels.channel import DEADLINE_S
from worker.channels.email.delivery.compose import Composer
from worker.channels.email.delivery.pool import BusyError, SessionPool
from worker.channels.email.delivery.session import InsecureError, RefusedError, Session
from worker.channels.email.outgoing import mail_bytes
from worker.domain.deliveries import (
    DeliveryOutcome,
    NotDelivered,
    OutgoingReply,
    Pause,
    Piece,
    Rejected,
    Sent,
    Unclear,
)
from worker.net.access_token import TokenError
from worker.net.answer import IncompleteAnswerError
from worker.net.window import CallWindow

ANSWER_S: Final = 600.0
"""RFC 5321 4.5.3.2.6 gives the server these ten minutes after the end of the data."""
_BUSY_S: Final = 5.0
_LATER_S: Final = 300.0
_REST_S: Final = 300.0
"""An operator has to act. One attempt after each rest finds out whether they have."""
_AWAY_S: Final = 30.0
_REFUSED_FOR_GOOD: Final = 500
_GONE: Final = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
"""Status codes of RFC 3463 that say: nobody has this address, or nobody any more."""
_QUEUED: Final = re.compile(rb"queued as ([0-9A-Za-z.-]{4,64})")
_EXCHANGE: Final = re.compile(rb"2\.6\.0 (<[!-;=?-~]{1,200}@[!-;=?-~]{1,200}>)")
_SES: Final = re.compile(rb"Ok ([0-9a-f-]{20,100})\s*$")
_SES_HOST: Final = re.compile(r"email-smtp[a-z-]*\.([a-z0-9-]+)\.amazonaws\.com")


@dataclass(frozen=True, kw_only=True)
class SmtpChannel:
    """One for all threads."""

    pool: SessionPool
    composer: Composer
    host: str
    """Of the server: some give mails an id of their own."""
    deadline_s: float = DEADLINE_S
    answer_s: float = ANSWER_S
    takes_key: ClassVar[bool] = False

    def compose(self, reply: OutgoingReply) -> tuple[Piece, ...]:
        """Return what every attempt sends."""
        mail, kept = self.composer.compose(reply)
        # `bytes` of ASCII, but for addresses that are not.
        order = {"to": mail.to.address, "mail": mail_bytes(mail).decode()}
        request = json.dumps(order, ensure_ascii=False)
        return (Piece(key=reply.idempotency_key, request=request, mail=kept),)

    def deliver(self, reply: OutgoingReply) -> DeliveryOutcome:
        """Send the stored mail once."""
        return self.deliver_in_phases(reply, lambda: None)

    def deliver_in_phases(
        self, reply: OutgoingReply, before_end: Callable[[], None]
    ) -> DeliveryOutcome:
        """Send the stored mail once; `before_end`: called when only the end is missing."""
        if reply.request is None:
            raise ValueError("a mail needs its stored request")
        order = json.loads(reply.request)
        sender = self.composer.bounce_to(reply)
        window = CallWindow.starting_now(self.deadline_s)
        begun = False
        try:
            with self.pool.session(window) as session:
                session.begin(sender, order["to"], order["mail"])
                before_end()
                begun = True
                return self._end(session)
        except BusyError:
            return NotDelivered(reason="smtp: all connections are busy", retry_after_s=_BUSY_S)
        except RefusedError as error:
            return _judge(error)
        except InsecureError:
            return _resting("smtp: the server offers no STARTTLS")
        except TokenError as error:
            return _resting(str(error))
        except SMTPNotSupportedError:
            return Rejected(reason="smtp: the server takes no such address (SMTPUTF8)")
        except (OSError, SMTPException, IncompleteAnswerError) as error:
            if begun:
                return Unclear(reason=f"smtp: no answer after the mail ({type(error).__name__})")
            return _resting(f"smtp: {type(error).__name__}", _AWAY_S)
        # Last: an error of a certificate is a ValueError, too.
        except ValueError as error:
            return Rejected(reason=f"smtp: no such address can be sent ({type(error).__name__})")

    def _end(self, session: Session) -> Sent:
        answer = session.end(CallWindow.starting_now(self.answer_s))
        queued = _QUEUED.search(answer)
        return Sent(
            provider_id=queued[1].decode() if queued else None,
            message_id=_message_id(answer, self.host),
        )


def _judge(refused: RefusedError) -> NotDelivered | Rejected:
    """Return the outcome; the reason has the codes and no text."""
    reason, for_good = f"smtp {refused}", refused.code >= _REFUSED_FOR_GOOD
    if not refused.of_a_mail or (refused.phase == "MAIL" and for_good):
        return _resting(reason)
    if for_good:
        return Rejected(reason=reason, gone=refused.status in _GONE)
    return NotDelivered(reason=reason, retry_after_s=_LATER_S)


def _resting(reason: str, seconds: float = _REST_S) -> NotDelivered:
    """Return the outcome if no mail at all can leave."""
    return NotDelivered(reason=reason, pause=Pause(scope="channel", seconds=seconds))


def _message_id(answer: bytes, host: str) -> str | None:
    """Return the Message-ID that the server has given the mail, if its answer names one."""
    if named := _EXCHANGE.search(answer):
        return named[1].decode()
    place, ses = _SES_HOST.fullmatch(host), _SES.search(answer)
    if place is None or ses is None:
        return None
    # SES leaves the domain out, and says in its guide which one it is.
    domain = "email" if place[1] == "us-east-1" else place[1]
    return f"<{ses[1].decode()}@{domain}.amazonses.com>"
