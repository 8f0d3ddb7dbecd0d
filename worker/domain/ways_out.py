"""Ways out: how the replies of a channel or a route leave, as it is configured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDelivery:
    """Replies go out as a Celery task of the producer."""

    task: str
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDelivery:
    """Replies go out as signed POSTs."""

    url: str
    secret_env: tuple[str, ...] = ()
    """Environment variables with the signing keys; several while a key is rotated."""
    secret_file: tuple[Path, ...] = ()
    """Files with those keys."""
    allow_private: bool = False
    """The URL may lead to an address that is not public, and may be http."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPointDelivery:
    """Replies go out through a third party's channel."""

    entry_point: str
    """A name in the entry point group `worker.channels`."""
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TelnyxDelivery:
    """Replies go out as text messages through Telnyx; the gateway takes in what people write."""

    whatsapp: bool = False
    """False = SMS and MMS."""
    profile_id: str | None = None
    """The messaging profile; None = that of the number."""
    max_parts: int = 4
    """A reply is cut, or split, at this many parts."""
    split: bool = False
    """A longer reply goes out in several messages instead of being cut."""
    groups: bool = False
    """Messages to several people are answered, too."""
    messages_per_second: float | None = None
    """For each number of ours, all workers together; None = no limit. So is the next one."""
    messages_per_day: int | None = None
    takes_key: bool = True
    """Whether Telnyx drops a second request with the same idempotency key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailDelivery:
    """Replies go out as mails; `worker mailbox` or the gateway takes in what people write."""

    addresses: tuple[str, ...]
    """Ours, in lower case. The first one sends."""
    telnyx: bool = False
    """By Telnyx's API for e-mail; False = by SMTP."""
    name: str = ""
    """Shown as the sender."""
    authserv_id: str | None = None
    """The server whose `Authentication-Results` count; None = none do."""
    require_dmarc: bool = False
    forms: tuple[str, ...] = ()
    """Senders that write for the person in Reply-To: contact forms."""
    allow: tuple[str, ...] = ()
    """Senders whose mails are answered although they look automatic."""
    per_domain_per_minute: int = 20
    keep_raw: bool = False
    """The bytes of mails are stored."""


Delivery: TypeAlias = (
    TaskDelivery | WebhookDelivery | EntryPointDelivery | TelnyxDelivery | MailDelivery
)
