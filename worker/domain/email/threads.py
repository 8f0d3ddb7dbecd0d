"""Which thread a mail belongs to, and the headers that keep our reply in it.

A thread is of one person and one address of ours: no id in a mail leads to another person's.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from worker.domain.email.mail import Mail
from worker.domain.email.marks import delivery_of_id
from worker.domain.ids import DeliveryId

MAX_REFERENCES: Final = 20
"""Of the newest ones; besides, the oldest stays, because clients group by it."""
MAX_SUBJECT: Final = 250
_REPLY: Final = frozenset(
    (
        *("re", "aw", "antw", "antwort", "sv", "vs", "odp", "rif", "r", "res", "resp", "rép"),
        *("ynt", "vá", "ответ", "תשובה", "رد", "回复", "回覆", "答复", "返信", "답장"),
    )
)
_FORWARD: Final = frozenset(
    (
        *("fwd", "fw", "wg", "tr", "rv", "enc", "doorst", "vb", "pd", "i", "vl"),
        *("转发", "轉寄", "転送", "전달"),
    )
)


def is_reply_subject(subject: str) -> bool:
    """Whether a subject says that the mail is a reply."""
    return _prefix(subject)[0] in _REPLY


def is_forward_subject(subject: str) -> bool:
    """Whether a subject says that the mail is forwarded."""
    return _prefix(subject)[0] in _FORWARD


def reply_subject(subject: str) -> str:
    """Return the subject of an answer: `Re:` once, whatever the language of the others was."""
    rest = " ".join(_without(_REPLY, subject).split())[:MAX_SUBJECT]
    return f"Re: {rest}" if rest else "Re:"


def canonical_subject(subject: str) -> str:
    """Return what two mails about one thing share of their subjects."""
    return " ".join(_without(_REPLY | _FORWARD, subject).casefold().split())


def _prefix(subject: str) -> tuple[str, str]:
    """Return the word before the first colon, without a count such as `[2]`, and what follows."""
    head, colon, rest = subject.replace("\uff1a", ":", 1).partition(":")
    word = head.strip().lower().rstrip("0123456789[]() ")
    return (word, rest.strip()) if colon else ("", subject)


def _without(prefixes: frozenset[str], subject: str) -> str:
    word, rest = _prefix(subject)
    while word in prefixes:
        subject = rest
        word, rest = _prefix(subject)
    return subject


def references_out(mail: Mail) -> tuple[str, ...]:
    """Return the References of an answer: the whole chain, bounded, with the mail itself."""
    chain = mail.references or mail.in_reply_to[:1]
    chain = tuple(dict.fromkeys(one for one in chain if one != mail.message_id))
    if len(chain) > MAX_REFERENCES:
        chain = (chain[0], *chain[1 - MAX_REFERENCES :])
    return (*chain, mail.message_id)


def thread_key(ours: str, person: str, root: str) -> str:
    """Return the `thread` of the envelope: short, whatever the length of the root's id."""
    parts = f"{ours.lower()}\0{person.lower()}\0{root}"
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A mail that this one may answer."""

    message_id: str | None = None
    delivery: DeliveryId | None = None
    """Ours, as its HMAC proves; None = a mail of the person, or one whose id a relay has given."""
    same_subject: bool = False
    """It counts only under the same subject: clients take old References along to a new topic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownMail:
    """A stored mail, received or sent."""

    ours: str
    person: str
    thread: str
    root: str
    subject: str
    delivery: DeliveryId | None = None
    """Ours; None = the person's."""


@dataclass(frozen=True, slots=True)
class Thread:
    """Where a mail belongs."""

    key: str
    root: str
    """Message-ID of its first mail."""
    answers: DeliveryId | None = None
    """Our mail that this one answers; None = one of the person, or none."""


def candidates(mail: Mail, key: bytes) -> tuple[Candidate, ...]:
    """Return what to look up, the best first. An empty id is never among them."""
    found = list(_of_ids(mail.in_reply_to, key))
    newest_first = tuple(reversed(mail.references))
    found += _of_ids(newest_first[:1], key)
    found += _of_ids(newest_first[1:], key, same_subject=True)
    seen: dict[tuple[str | None, DeliveryId | None], Candidate] = {}
    for one in found:
        seen.setdefault((one.message_id, one.delivery), one)
    return tuple(seen.values())


def _of_ids(ids: Iterable[str], key: bytes, *, same_subject: bool = False) -> Iterable[Candidate]:
    for one in ids:
        if one.strip("<> "):
            delivery = delivery_of_id(one, key)
            yield Candidate(
                message_id=None if delivery else one, delivery=delivery, same_subject=same_subject
            )


def thread_of(
    mail: Mail,
    *,
    ours: str,
    person: str,
    key: bytes,
    by_id: Mapping[str, KnownMail],
    by_delivery: Mapping[DeliveryId, KnownMail],
) -> Thread:
    """Return the thread of a mail: that of the first candidate that is of this person, or its own.

    The mappings hold what was found of `candidates`.
    """
    for one in candidates(mail, key):
        known = by_delivery.get(one.delivery) if one.delivery else by_id.get(one.message_id or "")
        if known is None or (known.ours.lower(), known.person.lower()) != (
            ours.lower(),
            person.lower(),
        ):
            continue
        if one.same_subject and canonical_subject(known.subject) != canonical_subject(mail.subject):
            continue
        return Thread(known.thread, known.root, known.delivery)
    return Thread(thread_key(ours, person, mail.message_id), mail.message_id)
