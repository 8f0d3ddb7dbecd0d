"""The rules of screening, in the order in which they apply. The first that fits decides."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from worker.domain.routing import ChannelPolicy, Screening
from worker.domain.screening import machines
from worker.domain.screening.keywords import is_stop_emoji, words_of
from worker.domain.screening.revocations import is_revocation
from worker.domain.screening.rule import DecoratingRule
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
_LINKS: Final = ("https://", "http://", "www.")
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


@dataclass(slots=True)
class Rule(DecoratingRule[Callable[[Folded, Screening], bool]]):
    """One rule about the text of a message."""

    known: ClassVar[list["Rule"]] = []
    outcome: str
    source: str
    """Where it comes from: what providers and regulators ask for, and where others failed."""
    consent: ConsentChange | None = None


RULES: Final = Rule.known
_TELNYX = "Telnyx, advanced opt-in and opt-out"
_FCC = "47 CFR 64.1200(a)(10)"


@Rule("opt_out", f"{_FCC}; {_TELNYX}; rapidpro#519", consent="stop")
def _stop_keyword(text: Folded, of: Screening) -> bool:
    """A keyword for stop as the whole message, also with a typo or in other letters."""
    return text.is_whole and text.phrase in words_of("stop", of.languages)


@Rule("opt_out", f"{_FCC}: any reasonable means", consent="stop")
def _stop_emoji(text: Folded, _: Screening) -> bool:
    """Nothing but 🛑, ✋, 🚫, 🔕 or 🖕."""
    return text.is_whole and is_stop_emoji(text.text)


@Rule("opt_in", _TELNYX, consent="start")
def _start_keyword(text: Folded, of: Screening) -> bool:
    """A keyword for start as the whole message."""
    return text.phrase in words_of("start", of.languages)


@Rule("help", f"{_TELNYX}; CTIA messaging principles: brand, contact, opt-out")
def _help_keyword(text: Folded, of: Screening) -> bool:
    """A keyword for help as the whole message, if the channel has a `help_text`."""
    return of.help_text is not None and text.phrase in words_of("help", of.languages)


@Rule("empty", "freescout#320: a visible outcome instead of a lost message")
def _empty(text: Folded, _: Screening) -> bool:
    """Nothing that can be seen, and no attachment."""
    return not text.flat


@Rule("reaction", "iMessage and Google Messages")
def _reaction(text: Folded, _: Screening) -> bool:
    """A tapback as text, such as `Loved “See you at 5”` or `👍 to “…”`, whole message."""
    return machines.REACTION.fullmatch(text.flat) is not None


@Rule("one_time_code", "hermes-agent-plugin#63")
def _one_time_code(text: Folded, _: Screening) -> bool:
    """A code to log in with, such as `Your code is 123456`."""
    has_code = "?" not in text.flat and machines.ONE_TIME_CODE.match(text.flat) is not None
    return has_code and machines.PERSON.isdisjoint(text.words)


@Rule("auto_reply", "hermes-agent-plugin#48; iOS and Android")
def _machine(text: Folded, _: Screening) -> bool:
    """An automatic reply of a phone or an office, advertising with `Reply STOP to …`."""
    flat = text.flat
    if machines.FOOTER.search(flat):
        return not flat.endswith("?") and machines.PERSON.isdisjoint(text.words)
    answers = machines.AUTO_REPLY.match(flat) or machines.AUTO_ANYWHERE.search(flat)
    return "?" not in flat and answers is not None


@Rule("link_only", "own choice")
def _link_only(text: Folded, _: Screening) -> bool:
    """Links and nothing else, without an attachment."""
    return all(word.startswith(_LINKS) for word in text.flat.split())


@Rule("opt_out", f"{_FCC}: any reasonable means; learning-circles#593", consent="stop")
def _revocation(text: Folded, of: Screening) -> bool:
    """An opt-out in own words, as `please stop texting me` or `wrong number`, if brief."""
    is_brief = text.is_whole and len(text.flat) <= _LONGEST_REVOCATION
    return is_brief and is_revocation(text.clauses, of.languages)


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
