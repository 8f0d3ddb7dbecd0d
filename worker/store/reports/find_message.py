"""Finding a message that somebody asks for: accepted, in the inbox, or refused. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import func, select, tuple_

from worker.domain.ids import ChannelUserId, DeadLetterId, MessageRowId
from worker.domain.states import DeadLetterKind, Resolution
from worker.store.database import Database
from worker.store.schema.operations import DeadLetter
from worker.store.schema.users import ChannelUser, InboxEntry, Message
from worker.store.selects import fetch, select_as

MAX_FOUND = 10
MAX_READ = 500
"""How many of the newest refused envelopes are searched."""
_MAX_BYTES: Final = 262_144
"""An envelope has some kilobytes; a larger dead letter is a flood or has files in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An accepted message that fits."""

    id: MessageRowId
    user_id: ChannelUserId
    channel: str
    accepted_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InInbox:
    """A row of the inbox, which no worker has accepted yet."""

    id: int
    created_at: datetime
    now: datetime
    """The database's time, which its age is computed with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedEnvelope:
    """A dead letter of an invalid envelope."""

    id: DeadLetterId
    reason: str
    """A code of `worker.domain.reasons`."""
    detail: str
    raw: bytes
    """As it came, with the texts of the sender. Never log it."""
    created_at: datetime
    resolution: Resolution | None


_FOUND: Final = (
    select_as(Found, Message, ChannelUser, user_id=Message.channel_user_id)
    .join(ChannelUser, ChannelUser.id == Message.channel_user_id)
    .order_by(Message.id)
    .limit(MAX_FOUND)
)


class FindMessageStore:
    """Messages by their names."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def by_row(self, row_id: int) -> tuple[Found, ...]:
        """Find a message by our number."""
        with self._database.statement() as connection:
            return fetch(connection, Found, _FOUND.where(Message.id == row_id))

    def by_address(self, channel: str, pairs: Sequence[tuple[str, str]]) -> tuple[Found, ...]:
        """Find messages by address and the channel's own id; any of the `pairs`."""
        either = tuple_(ChannelUser.address, Message.message_id).in_(pairs)
        asked = _FOUND.where(ChannelUser.channel == channel, either)
        with self._database.statement() as connection:
            return fetch(connection, Found, asked)

    def by_message_id(self, message_id: str) -> tuple[Found, ...]:
        """Find messages by the channel's own id alone. Slow if there are many messages."""
        # No index begins with message_id. MATERIALIZED makes Postgres look for the id in the unique
        # index alone, which is a fraction of the table's size.
        named = (
            select(Message.channel_user_id, Message.message_id)
            .where(Message.message_id == message_id)
            .limit(MAX_FOUND)
            .cte("named")
            .prefix_with("MATERIALIZED")
        )
        same = (named.c.channel_user_id, named.c.message_id)
        asked = _FOUND.where(tuple_(Message.channel_user_id, Message.message_id) == tuple_(*same))
        with self._database.statement() as connection:
            return fetch(connection, Found, asked)

    def in_inbox(self, message_id: str) -> tuple[InInbox, ...]:
        """Find rows of the inbox."""
        same_id = InboxEntry.envelope["message_id"].astext == message_id
        asked = select_as(InInbox, InboxEntry, now=func.service_now()).where(same_id)
        with self._database.statement() as connection:
            asked = asked.order_by(InboxEntry.id).limit(MAX_FOUND)
            return fetch(connection, InInbox, asked)

    def refused(self) -> tuple[RefusedEnvelope, ...]:
        """Return the newest envelopes that were refused, the newest first."""
        # The caller compares the ids: in raw bytes an id may be encoded in several ways.
        asked = select_as(RefusedEnvelope, DeadLetter).where(
            DeadLetter.kind == DeadLetterKind.ENVELOPE,
            func.octet_length(DeadLetter.raw) <= _MAX_BYTES,
        )
        with self._database.statement() as connection:
            asked = asked.order_by(DeadLetter.id.desc()).limit(MAX_READ)
            return fetch(connection, RefusedEnvelope, asked)
