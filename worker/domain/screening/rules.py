"""The rules of screening, in the order in which they apply. The first that fits decides."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from worker.domain.routing import ChannelPolicy, Screening
from worker.domain.screening import machines
from worker.domain.screening.keywords import is_stop_emoji, words_of
from worker.domain.screening.revocations import is_revocation
from worker.domain.screening.verdict import ConsentChange, Verdict
from worker.domain.states import ConsentSource
from worker.domain.text.folding import Folded
from worker.domain.ways_out import MailDelivery, TelnyxDelivery

STOP_TEXT: Final = (
    "You have opted out and will get no more messages from us. Reply START to get them again."
)
"""Confirms an opt-out if the channel has no `stop_text`; no advertising, and no word to reply with
but START."""
_LONGEST_REVOCATION: Final = 200
"""Who wants no more messages is brief; a longer text has the same words for and about others."""
SIGNALS: Final[dict[str, ConsentChange | None]] = {
    "opt_out": "stop",
    "opt_in": "start",
    **dict.fromkeys(("help", "auto_reply", "bulk", "bounce", "group")),
    **dict.fromkeys(("edit", "revoke", "reaction")),
    # Of mails, see `screening.mail`.
    **dict.fromkeys(("own_mail", "loop", "unauthenticated", "no_reply", "not_addressed", "spam")),
    **dict.fromkeys(("calendar", "encrypted", "empty")),
}
"""Signals of messages that no model answers, and the consent that they change.

A carrier answers opt-outs and HELP itself. An answer to an automatic reply would be answered by the
machine on the other side, for ever.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule about the text of a message."""

    name: str
    outcome: str
    what: str
    """What it recognises, for the reference."""
    source: str
    """Where it comes from: what providers and regulators ask for, and where others failed."""
    fits: Callable[[Folded, Screening], bool]
    consent: ConsentChange | None = None


_TELNYX = "Telnyx, advanced opt-in and opt-out"
_FCC = "47 CFR 64.1200(a)(10)"
RULES: Final = (
    Rule(
        name="stop_keyword",
        outcome="opt_out",
        what="a keyword for stop as the whole message, also with a typo or in other letters",
        source=f"{_FCC}; {_TELNYX}; rapidpro#519",
        consent="stop",
        fits=lambda text, of: text.is_whole and text.phrase in words_of("stop", of.languages),
    ),
    Rule(
        name="stop_emoji",
        outcome="opt_out",
        what="nothing but 🛑, ✋, 🚫, 🔕 or 🖕",
        source=f"{_FCC}: any reasonable means",
        consent="stop",
        fits=lambda text, _: text.is_whole and is_stop_emoji(text.text),
    ),
    Rule(
        name="start_keyword",
        outcome="opt_in",
        what="a keyword for start as the whole message",
        source=_TELNYX,
        consent="start",
        fits=lambda text, of: text.phrase in words_of("start", of.languages),
    ),
    Rule(
        name="help_keyword",
        outcome="help",
        what="a keyword for help as the whole message, if the channel has a `help_text`",
        source=f"{_TELNYX}; CTIA messaging principles: brand, contact, opt-out",
        fits=lambda text, of: (
            of.help_text is not None and text.phrase in words_of("help", of.languages)
        ),
    ),
    Rule(
        name="empty",
        outcome="empty",
        what="nothing that can be seen, and no attachment",
        source="freescout#320: a visible outcome instead of a lost message",
        fits=lambda text, _: not text.flat,
    ),
    Rule(
        name="reaction",
        outcome="reaction",
        what="a tapback as text, such as `Loved “See you at 5”` or `👍 to “…”`, whole message",
        source="iMessage and Google Messages",
        fits=lambda text, _: machines.is_reaction(text),
    ),
    Rule(
        name="one_time_code",
        outcome="one_time_code",
        what="a code to log in with, such as `Your code is 123456`",
        source="hermes-agent-plugin#63",
        fits=lambda text, _: machines.is_one_time_code(text),
    ),
    Rule(
        name="machine",
        outcome="auto_reply",
        what="an automatic reply of a phone or an office, advertising with `Reply STOP to …`",
        source="hermes-agent-plugin#48; iOS and Android",
        fits=lambda text, _: machines.is_machine(text),
    ),
    Rule(
        name="link_only",
        outcome="link_only",
        what="links and nothing else, without an attachment",
        source="own choice",
        fits=lambda text, _: machines.is_link_only(text),
    ),
    Rule(
        name="revocation",
        outcome="opt_out",
        what="an opt-out in own words, as `please stop texting me` or `wrong number`, if brief",
        source=f"{_FCC}: any reasonable means; learning-circles#593",
        consent="stop",
        fits=lambda text, of: (
            text.is_whole
            and len(text.flat) <= _LONGEST_REVOCATION
            and is_revocation(text.clauses, of.languages)
        ),
    ),
)
_OF_TEXT: Final = frozenset({"empty", "link_only"})
"""Rules about messages without an attachment."""


def screen(
    text: str,
    *,
    policy: ChannelPolicy,
    user: str,
    recipient: str = "",
    signals: Sequence[str] = (),
    has_attachments: bool = False,
) -> Verdict | None:
    """Return why no model answers a message; None = one does."""
    for signal in signals:
        if signal in SIGNALS and not (signal == "group" and _takes_groups(policy)):
            return _of_signal(signal, policy)
    if policy.kind != "telephone":
        return None
    # Two of our numbers would answer each other for ever.
    if user == recipient or user in policy.recipient_agents:
        return Verdict(outcome="own_number", rule="own_number")
    folded = Folded(text)
    for rule in RULES:
        if has_attachments and rule.name in _OF_TEXT:
            continue
        if rule.fits(folded, policy.screening):
            return _of_rule(rule, policy.screening)
    return None


def _takes_groups(policy: ChannelPolicy) -> bool:
    return isinstance(policy.delivery, TelnyxDelivery) and policy.delivery.groups


def _of_signal(signal: str, policy: ChannelPolicy) -> Verdict:
    consent = SIGNALS[signal]
    source = ConsentSource.SIGNAL
    if isinstance(policy.delivery, TelnyxDelivery):
        source = ConsentSource.TELNYX_KEYWORD
    elif isinstance(policy.delivery, MailDelivery):
        source = ConsentSource.NATURAL  # found in the mail's text, see `take_mail`
    return Verdict(
        outcome=signal,
        rule=f"signal {signal}",
        consent=consent,
        source=source if consent else None,
    )


def _of_rule(rule: Rule, screening: Screening) -> Verdict:
    text = None
    if rule.consent == "stop":
        text = screening.stop_text or STOP_TEXT
    elif rule.name == "help_keyword":
        text = screening.help_text
    return Verdict(
        outcome=rule.outcome,
        rule=rule.name,
        consent=rule.consent,
        source=ConsentSource.NATURAL if rule.consent else None,
        text=text,
    )
