"""The rules that tell machines from people: one table, in the order in which they count."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from worker.domain.email.mail import Address, Mail
from worker.domain.email.person import addressed, own_address
from worker.domain.screening.mail import signs
from worker.domain.screening.mail.facts import Circumstances, MailScreening
from worker.domain.screening.mail.subjects import clear_kind, vague_kind

Tier: TypeAlias = Literal["hard", "soft"]
_SHORT: Final = 1000
"""Characters of a text that may come from a template."""
_AT_ONCE_S: Final = 3.0
"""Nobody reads a reply and answers it in this time."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A mail with all that the rules look at."""

    mail: Mail
    by: MailScreening
    facts: Circumstances

    @property
    def sender(self) -> Address:
        """The sender, with an empty address if there is none."""
        return self.mail.sender or Address("")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailRule:
    """One rule."""

    number: int
    name: str
    tier: Tier
    outcome: str
    what: str
    """What it recognises, for the reference."""
    source: str
    fits: Callable[[Asked], bool]
    alone: bool = True
    """False = it counts only together with another rule."""


def _is_own(asked: Asked) -> bool:
    mail, ours = asked.mail, asked.by.ours
    sender = mail.header("sender").rpartition("<")[2].rstrip(">")
    loops = " ".join(mail.headers.get("x-loop", ())).lower().replace("<", " ").replace(">", " ")
    return asked.facts.own_id or any(
        own_address(one, ours) for one in (asked.sender.address, sender, *loops.split())
    )


def _is_not_addressed(asked: Asked) -> bool:
    return bool(asked.by.ours) and addressed(asked.mail, asked.by.ours) is None


def _is_spam(asked: Asked) -> bool:
    return any(
        asked.mail.header(name).startswith(value) for name, value in asked.by.spam_headers.items()
    )


def _dmarc(asked: Asked) -> str | None:
    return signs.authentication(asked.mail, asked.by.authserv_id).get("dmarc")


def _is_from_form(asked: Asked) -> bool:
    return asked.sender.address.lower() in asked.by.forms and bool(asked.mail.reply_to)


def _is_short(asked: Asked) -> bool:
    return len(asked.facts.new_text.strip()) <= _SHORT


RULES: Final = (
    MailRule(
        number=3,
        name="report",
        tier="hard",
        outcome="bounce",
        what="a delivery, disposition or feedback report",
        source="RFC 3462, 3464, 8098, 5965",
        fits=lambda asked: signs.is_report(asked.mail),
    ),
    MailRule(
        number=5,
        name="daemon",
        tier="hard",
        outcome="bounce",
        what="the sender is `mailer-daemon`, `postmaster`, `bounces`, `owner-…`, `…-request` or so",
        source="RFC 3834 section 2; RFC 5230 section 4.6",
        fits=lambda asked: signs.is_of_daemon(asked.mail),
    ),
    MailRule(
        number=1,
        name="auto_submitted",
        tier="hard",
        outcome="auto_reply",
        what="`Auto-Submitted` with another word than `no`",
        source="RFC 3834 sections 2 and 5",
        fits=lambda asked: signs.is_auto_submitted(asked.mail),
    ),
    MailRule(
        number=2,
        name="null_path",
        tier="hard",
        outcome="bounce",
        what="the envelope sender, or `Return-Path`, is empty or `MAILER-DAEMON`",
        source="RFC 3834 section 2; RFC 5321 section 4.5.5",
        fits=lambda asked: signs.has_null_path(asked.mail),
    ),
    MailRule(
        number=4,
        name="responder_header",
        tier="hard",
        outcome="auto_reply",
        what="`X-Failed-Recipients`, `X-Autoreply`, `X-Autorespond` and others like them",
        source="FreeScout isAutoResponder; Discourse is_auto_generated",
        fits=lambda asked: signs.is_of_responder(asked.mail),
    ),
    MailRule(
        number=11,
        name="own_mail",
        tier="hard",
        outcome="own_mail",
        what="our own address, Message-ID or `X-Loop`",
        source="RFC 3834 section 2; FreeScout SendAutoReply",
        fits=_is_own,
    ),
    MailRule(
        number=17,
        name="rate",
        tier="hard",
        outcome="loop",
        what="too many replies to this address, or to its domain, within an hour",
        source="freescout#688: an address changed with each mail of a loop; RFC 3834 section 2",
        fits=lambda asked: (
            asked.facts.replies_to_address >= asked.by.per_address
            or asked.facts.replies_to_domain >= asked.by.per_domain
        ),
    ),
    MailRule(
        number=15,
        name="dmarc_required",
        tier="hard",
        outcome="unauthenticated",
        what="no `dmarc=pass` of our server, if the channel has `require_dmarc`",
        source="RFC 8601; hermes-agent#52801, #46718; vm0#3194",
        fits=lambda asked: asked.by.require_dmarc and _dmarc(asked) != "pass",
    ),
    MailRule(
        number=15,
        name="dmarc_fail",
        tier="soft",
        outcome="unauthenticated",
        what="`dmarc=fail` of our server",
        source="RFC 8601; e2a#318: many domains have no DMARC",
        fits=lambda asked: _dmarc(asked) == "fail",
    ),
    MailRule(
        number=6,
        name="no_reply",
        tier="soft",
        outcome="no_reply",
        what="the sender is `noreply`, `do-not-reply`, `notifications`, `nobody`; no contact form",
        source="Discourse; chatwoot#5131",
        fits=lambda asked: signs.is_no_reply(asked.mail) and not _is_from_form(asked),
    ),
    MailRule(
        number=7,
        name="precedence",
        tier="soft",
        outcome="bulk",
        what="`Precedence: bulk`, `junk`, `list` or `auto_reply`",
        source="RFC 3834 section 2",
        fits=lambda asked: signs.is_bulk(asked.mail),
    ),
    MailRule(
        number=8,
        name="list",
        tier="soft",
        outcome="bulk",
        what="`List-Id`, `List-Unsubscribe` and other headers of mailing lists",
        source="RFC 2919, 2369; RFC 5230 section 4.6",
        fits=lambda asked: signs.is_of_list(asked.mail),
    ),
    MailRule(
        number=8,
        name="feedback_id",
        tier="soft",
        outcome="bulk",
        what="`Feedback-ID`, which is on mails from one person to another, too",
        source="own choice",
        fits=lambda asked: "feedback-id" in asked.mail.headers,
        alone=False,
    ),
    MailRule(
        number=9,
        name="exchange_rule",
        tier="soft",
        outcome="auto_reply",
        what="`X-MS-Exchange-Inbox-Rules-Loop` with `X-Auto-Response-Suppress: All`",
        source="Zammad out_of_office_check",
        fits=lambda asked: signs.is_exchange_rule(asked.mail),
    ),
    MailRule(
        number=10,
        name="subject",
        tier="soft",
        outcome="auto_reply",
        what="the subject of an out-of-office reply or a bounce, over a short text",
        source="Discourse; chatwoot#9927: the outcome is visible",
        fits=lambda asked: clear_kind(asked.mail.subject) is not None and _is_short(asked),
    ),
    MailRule(
        number=10,
        name="subject_with_sign",
        tier="soft",
        outcome="auto_reply",
        what="such a subject over a long text",
        source="a person's subject may begin with `Returned mail`",
        fits=lambda asked: vague_kind(asked.mail.subject) is not None,
        alone=False,
    ),
    MailRule(
        number=9,
        name="suppress",
        tier="soft",
        outcome="auto_reply",
        what="`X-Auto-Response-Suppress` with `All`, `AutoReply` or `OOF`",
        source="MS-OXCMAIL; discourse#21367: Exchange sets it on mails of people",
        fits=lambda asked: signs.suppresses_replies(asked.mail),
        alone=False,
    ),
    MailRule(
        number=12,
        name="not_addressed",
        tier="soft",
        outcome="not_addressed",
        what="none of our addresses is in `To`, `Cc` or the envelope",
        source="RFC 3834 section 2; RFC 5230 section 4.5",
        fits=_is_not_addressed,
    ),
    MailRule(
        number=13,
        name="many_recipients",
        tier="soft",
        outcome="bulk",
        what="more than `max_recipients` in `To` and `Cc`",
        source="Discourse maximum_recipients",
        fits=lambda asked: len(asked.mail.recipients) > asked.by.max_recipients,
    ),
    MailRule(
        number=14,
        name="spam",
        tier="soft",
        outcome="spam",
        what="a spam filter's header, as configured",
        source="Discourse email_in_spam_header; FreeScout",
        fits=_is_spam,
    ),
    MailRule(
        number=16,
        name="repeated",
        tier="soft",
        outcome="loop",
        what="the text of their last mail or our last reply again, or an answer within 3 seconds",
        source="freescout#688",
        fits=lambda asked: (
            asked.facts.same_text
            or (asked.facts.since_reply_s is not None and asked.facts.since_reply_s < _AT_ONCE_S)
        ),
    ),
)
