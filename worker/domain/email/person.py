"""Who has written a mail, and where the answer goes."""

from collections.abc import Collection
from dataclasses import dataclass

from worker.domain.email.mail import Address, Mail


@dataclass(frozen=True, slots=True)
class Person:
    """The writer of a mail."""

    who: Address
    answer_to: Address


def writer(mail: Mail, *, forms: Collection[str] = (), ours: Collection[str] = ()) -> Person | None:
    """Return who has written; None = the mail names nobody.

    A contact form writes as itself, and names its visitor in Reply-To: only of forms that are
    configured, because anybody can write any Reply-To. Other mails are answered there if its domain
    is that of From.
    """
    reply_to = next((one for one in mail.reply_to if one.address.lower() not in ours), None)
    sender = mail.sender
    if sender is None or reply_to is None:
        return None if sender is None else Person(sender, sender)
    if sender.address.lower() in forms:
        return Person(reply_to, reply_to)
    one, other = f".{sender.domain}", f".{reply_to.domain}"
    aligned = one.endswith(other) or other.endswith(one)
    return Person(sender, reply_to if aligned else sender)


def own_address(address: str, ours: Collection[str]) -> str | None:
    """Return which of our addresses this is, perhaps with a tag behind a plus; None = none."""
    local, _, domain = address.lower().rpartition("@")
    untagged = f"{local.partition('+')[0]}@{domain}"
    return next((one for one in (f"{local}@{domain}", untagged) if one in ours), None)


def addressed(mail: Mail, ours: Collection[str]) -> str | None:
    """Return the address of ours that a mail was written to; None = it names none.

    The headers come first: a copy for each of our addresses is the same mail.
    """
    named = (*(one.address for one in mail.recipients), mail.smtp.recipient or "")
    return next((own for own in (own_address(one, ours) for one in named) if own), None)
