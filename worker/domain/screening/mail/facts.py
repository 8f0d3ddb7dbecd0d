"""What screening knows besides a mail: the channel's configuration, and what happened before."""

from dataclasses import dataclass

from worker.domain.routing import ChannelPolicy
from worker.domain.ways_out import MailDelivery


@dataclass(frozen=True, slots=True, kw_only=True)
class MailScreening:
    """How a channel tells people from machines."""

    ours: frozenset[str] = frozenset()
    """Our addresses and their aliases, in lower case."""
    allowed: frozenset[str] = frozenset()
    """Addresses and domains, in lower case, that soft rules let through."""
    forms: frozenset[str] = frozenset()
    """Addresses of contact forms: who has filled one in is in Reply-To."""
    languages: tuple[str, ...] = ("en",)
    """Whose words for an opt-out count; English ones always do."""
    authserv_id: str | None = None
    """The name of the receiving server in Authentication-Results; None = none is trusted."""
    require_dmarc: bool = False
    """Only mails that pass DMARC are answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What only the database knows of a mail."""

    own_id: bool = False
    """Its Message-ID is one that we have made."""
    new_text: str = ""
    same_text: bool = False
    """Their last mail, or our last reply, has the same text."""
    since_reply_s: float | None = None
    """Since our last reply to them; None = there is none."""
    replies_to_address: int = 0
    """In the last hour."""
    replies_to_domain: int = 0


def screening_of(policy: ChannelPolicy) -> MailScreening:
    """Return the configuration of a channel. Without a driver of e-mail it has no addresses."""
    languages = policy.screening.languages
    options = policy.delivery
    if not isinstance(options, MailDelivery):
        return MailScreening(languages=languages)
    return MailScreening(
        ours=frozenset(options.addresses),
        allowed=frozenset(options.allow),
        forms=frozenset(options.forms),
        languages=languages,
        authserv_id=options.authserv_id,
        require_dmarc=options.require_dmarc,
    )
