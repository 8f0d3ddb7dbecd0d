"""Finding a message that somebody asks for: accepted, in the inbox, or refused. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.domain.ids import ChannelUserId, DeadLetterId, MessageRowId
from worker.domain.states import Resolution
from worker.store.database import Database
from worker.store.sql import Row, sql

_FOUND = "SELECT m.id, m.channel_user_id AS user_id, u.channel, m.accepted_at"
_BY_ROW = sql(
    _FOUND
    + " FROM messages m JOIN channel_users u ON u.id = m.channel_user_id WHERE m.id = :row_id"
)
_BY_PERSON = sql(
    _FOUND
    + """
FROM unnest(CAST(:addresses AS text[]), CAST(:ids AS text[])) AS asked (address, message_id)
JOIN channel_users u ON u.channel = :channel AND u.address = asked.address
JOIN messages m ON m.channel_user_id = u.id AND m.message_id = asked.message_id
ORDER BY m.id LIMIT :limit"""
)
# No index begins with message_id. What is asked for first is all in the unique index, which is read
# through: a fraction of the table.
_BY_MESSAGE_ID = sql(
    "WITH named AS MATERIALIZED (SELECT channel_user_id, message_id FROM messages"
    " WHERE message_id = :message_id LIMIT :limit) "
    + _FOUND
    + """
FROM named JOIN messages m USING (channel_user_id, message_id)
JOIN channel_users u ON u.id = channel_user_id ORDER BY m.id"""
)
_IN_INBOX = sql("""
SELECT id, created_at, service_now() AS now FROM inbox
WHERE envelope->>'message_id' = :message_id ORDER BY id LIMIT :limit
""")
# In the bytes the id may be encoded in several ways, so whoever asks reads them. An envelope has
# some kilobytes; what is larger than this is a flood or has files in it.
_REFUSED = sql("""
SELECT id, reason, detail, raw, created_at, resolution FROM dead_letters
WHERE kind = 'envelope' AND octet_length(raw) <= 262144
ORDER BY id DESC LIMIT :limit
""")
MAX_FOUND = 10
MAX_READ = 500
"""So many of the newest refused envelopes are looked into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An accepted message that may be meant."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedEnvelope:
    """A dead letter that was no valid envelope."""

    id: DeadLetterId
    reason: str
    detail: str
    raw: bytes
    """What somebody wrote. Never for a log."""
    created_at: datetime
    resolution: Resolution | None


class FindMessageStore:
    """Messages by their names."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def by_row(self, row_id: int) -> tuple[Found, ...]:
        """Find a message by our number."""
        with self._database.statement() as connection:
            return _found(connection.execute(_BY_ROW, {"row_id": row_id}).fetchall())

    def by_person(self, channel: str, pairs: Sequence[tuple[str, str]]) -> tuple[Found, ...]:
        """Find messages by address and the channel's own id; any of the `pairs`."""
        values = {
            "channel": channel,
            "addresses": [address for address, _ in pairs],
            "ids": [message_id for _, message_id in pairs],
            "limit": MAX_FOUND,
        }
        with self._database.statement() as connection:
            return _found(connection.execute(_BY_PERSON, values).fetchall())

    def by_message_id(self, message_id: str) -> tuple[Found, ...]:
        """Find messages by the channel's own id alone. Slow where there are many messages."""
        values = {"message_id": message_id, "limit": MAX_FOUND}
        with self._database.statement() as connection:
            return _found(connection.execute(_BY_MESSAGE_ID, values).fetchall())

    def in_inbox(self, message_id: str) -> tuple[InInbox, ...]:
        """Find what producers have put into the inbox."""
        values = {"message_id": message_id, "limit": MAX_FOUND}
        with self._database.statement() as connection:
            return tuple(
                InInbox(id=row.id, created_at=row.created_at, now=row.now)
                for row in connection.execute(_IN_INBOX, values)
            )

    def refused(self) -> tuple[RefusedEnvelope, ...]:
        """Give the newest envelopes that were refused, the newest first."""
        with self._database.statement() as connection:
            return tuple(
                RefusedEnvelope(
                    id=DeadLetterId(row.id),
                    reason=row.reason,
                    detail=row.detail,
                    raw=row.raw,
                    created_at=row.created_at,
                    resolution=None if row.resolution is None else Resolution(row.resolution),
                )
                for row in connection.execute(_REFUSED, {"limit": MAX_READ})
            )


def _found(rows: Sequence[Row]) -> tuple[Found, ...]:
    return tuple(
        Found(
            id=MessageRowId(row.id),
            user_id=ChannelUserId(row.user_id),
            channel=row.channel,
            accepted_at=row.accepted_at,
        )
        for row in rows
    )
