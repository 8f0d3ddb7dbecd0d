"""Decides whether a mail is from a person who wants an answer.

    hard    an answer could make a loop: never, and nobody new becomes a user of ours
    soft    a machine, but perhaps a wanted one: not answered unless its sender is allowed
    none    perhaps a person's, and there is nothing that a model could answer

Hard rules come first; otherwise the first one decides, see `rules`.
"""

from dataclasses import dataclass

from worker.domain.email.mail import Mail
from worker.domain.email.person import writer
from worker.domain.screening.mail.rules import RULES, Asked, Circumstances, MailRule, Tier
from worker.domain.screening.mail.subjects import vague_kind
from worker.domain.screening.revocations import is_revocation
from worker.domain.screening.verdict import Verdict
from worker.domain.states import ConsentSource
from worker.domain.text.folding import Folded
from worker.domain.ways_out import MailDelivery

_START = 500
"""Characters of the new text in which an opt-out is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailVerdict(Verdict):
    """Why a mail is not answered by a model."""

    tier: Tier | None = None


def screen_mail(
    mail: Mail, by: MailDelivery, facts: Circumstances, *, languages: tuple[str, ...] = ()
) -> MailVerdict | None:
    """Return why a mail gets no answer of a model; None = it gets one.

    `languages`: whose words for an opt-out count; English ones always do.
    """
    asked = Asked(mail, by, facts)
    fitting = [rule for rule in RULES if rule.fits(asked)]
    hard = next((rule for rule in fitting if rule.tier == "hard"), None)
    if hard is not None:
        return _of_rule(hard, mail)
    # Two rules of one number are one sign.
    counts = len({rule.number for rule in fitting}) > 1 or any(rule.alone for rule in fitting)
    allowed = not {asked.sender.address.lower(), asked.sender.domain}.isdisjoint(by.allow)
    if counts and not allowed:
        return _of_rule(fitting[0], mail)
    return _of_contents(asked, languages)


def _of_rule(rule: MailRule, mail: Mail) -> MailVerdict:
    by_subject = vague_kind(mail.subject) if rule.name.startswith("subject") else None
    return MailVerdict(outcome=by_subject or rule.outcome, rule=rule.name, tier=rule.tier)


def _of_contents(asked: Asked, languages: tuple[str, ...]) -> MailVerdict | None:
    """Return what there is instead of a question."""
    mail, text = asked.mail, asked.facts.new_text
    outcome = None
    if mail.calendar:
        outcome = "calendar"
    elif mail.encrypted:
        outcome = "encrypted"
    elif writer(mail, forms=asked.by.forms, ours=asked.by.addresses) is None:
        outcome = "no_sender"
    elif not text.strip() and not mail.attachments:
        outcome = "empty"
    elif is_revocation(Folded(text[:_START]).clauses, languages):
        return MailVerdict(
            outcome="opt_out", rule="revocation", consent="stop", source=ConsentSource.NATURAL
        )
    return None if outcome is None else MailVerdict(outcome=outcome, rule=outcome)
