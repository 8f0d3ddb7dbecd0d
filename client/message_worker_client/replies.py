"""Waiting for the answer to a message, by looking at the view `message_outcomes`."""

import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Self

from message_worker_client.database import read_address
from message_worker_client.message import ProducerError

if TYPE_CHECKING:
    import psycopg

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.5
_CONNECT_S: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageKey:
    """The names that a producer has for a message; they identify one row."""

    channel: str
    recipient: str = ""
    user: str
    thread: str = ""
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a message ended."""

    message: int | None
    """The service's own id of it; None = it was refused, and is a dead letter."""
    outcome: str
    """`answered`, `fallback`, or why there is no answer: see the reference of the envelope."""
    detail: str | None
    """Of a refused message: the field at fault and the fix."""
    dead_letter: int | None
    """Of a refused message: the number for `worker dead-letters show`."""
    turn: int | None
    """The service's id of the turn that answered it; several messages may share one."""
    text: str | None
    """The reply; None if there is none, or nobody has approved it yet."""
    source: str | None
    """`call`, `adopted`, `edited`, `fallback`, `hand_over` or `human`."""
    delivery: str | None
    """State of the reply's delivery when this was read."""
    accepted_at: datetime | None
    """None = it was refused."""
    finished_at: datetime
    delivered_at: datetime | None


_COLUMNS: Final = ", ".join(field.name for field in fields(Outcome))
_BY_ID: Final = f"SELECT {_COLUMNS} FROM message_outcomes WHERE message = %s"
# OFFSET 0: each key is looked up. As a join, the view would be read as a whole, being a union.
_BY_KEY: Final = f"""
    SELECT asked.place, {_COLUMNS}
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
         WITH ORDINALITY AS asked (channel, recipient, "user", thread, message_id, place),
         LATERAL (SELECT * FROM message_outcomes AS o
             WHERE o.channel = asked.channel AND o.recipient = asked.recipient
               AND o."user" = asked."user" AND o.thread = asked.thread
               AND o.message_id = asked.message_id OFFSET 0) AS found
    WHERE outcome IS NOT NULL AND (message IS NOT NULL
        OR finished_at >= coalesce(%s::timestamptz, '-infinity')
            AND coalesce(task_id = %s::uuid, true))
    ORDER BY asked.place
"""
_NOW: Final = "SELECT service_now() AS now"


class Outcomes:
    """One connection to Postgres that reads how messages ended.

    The database user needs SELECT on `message_outcomes`. Every method raises `ProducerError` if the
    database cannot be asked.
    """

    def __init__(self, database_url: str) -> None:
        self._address = read_address(database_url)
        self._begin = b""
        self._connection: psycopg.Connection[dict[str, Any]] | None = None
        self._since: datetime | None = None

    def forget_refusals(self) -> None:
        """Pass over all refusals until now: of a message that is sent again, they are old."""
        self._since = self._rows(_NOW, ())[0]["now"]

    def by_id(self, message: int) -> Outcome | None:
        """Return how the message with the service's id ended; None = it has not."""
        rows = self._rows(_BY_ID, (message,))
        return Outcome(**rows[0]) if rows and rows[0]["outcome"] is not None else None

    def by_key(
        self, keys: Sequence[MessageKey], *, task_id: str | None = None
    ) -> list[tuple[MessageKey, Outcome]]:
        """Return those that have ended, in the order of `keys`.

        `task_id`: pass over refusals of other tasks than this one; None = over none.
        """
        columns = zip(*map(astuple, keys), strict=True) if keys else [()] * 5
        rows = self._rows(_BY_KEY, [*(list(column) for column in columns), self._since, task_id])
        return [(keys[row.pop("place") - 1], Outcome(**row)) for row in rows]

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, query: str, values: Sequence[object]) -> list[dict[str, Any]]:
        import psycopg  # noqa: PLC0415 - a producer that only sends needs no driver
        from psycopg.rows import dict_row  # noqa: PLC0415

        from message_worker_client.postgres import fetch_all  # noqa: PLC0415

        try:
            if self._connection is None:
                self._connection = self._address.connect(
                    name="message-worker-client",
                    parameters={"connect_timeout": _CONNECT_S},
                    row_factory=dict_row,
                )
                self._begin = self._address.begin(self._connection)
            return fetch_all(self._connection, self._begin, query.encode(), values)
        except psycopg.Error as error:
            kind = type(error).__name__
        # Not inside the handler: the driver's message may quote values.
        self.close()
        raise ProducerError(f"the database could not be asked ({kind})")


def wait_for_reply(
    database_url: str,
    *,
    message: int | None = None,
    channel: str | None = None,
    user: str | None = None,
    message_id: str | None = None,
    recipient: str = "",
    thread: str = "",
    task_id: str | None = None,
    timeout_s: float = 60.0,
) -> Outcome | None:
    """Return how a message ended; None = it has not within `timeout_s`, or is not accepted yet.

    It returns at once if the message was refused: its `outcome` is the reason, and `detail` names
    the field. `task_id`, that of `Queued`, passes over refusals of an earlier attempt to send it.

    Name it by the service's id (`message`), or by channel, user and message_id (and recipient and
    thread, if it had them). The database user needs SELECT on `message_outcomes`. Raises
    `ProducerError` if the database cannot be asked.
    """
    key = None
    if channel is not None and user is not None and message_id is not None:
        key = MessageKey(
            channel=channel, recipient=recipient, user=user, thread=thread, message_id=message_id
        )
    asked = key if message is None else message
    if asked is None or (message is not None and message_id is not None):
        raise ProducerError("give either message, or channel, user and message_id", field="message")
    deadline, pause_s = time.monotonic() + timeout_s, _FIRST_PAUSE_S
    with Outcomes(database_url) as outcomes:
        while True:
            found = _outcome_of(asked, outcomes, task_id)
            left_s = deadline - time.monotonic()
            if found is not None or left_s <= 0:
                return found
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


def _outcome_of(asked: int | MessageKey, outcomes: Outcomes, task_id: str | None) -> Outcome | None:
    if isinstance(asked, MessageKey):
        return next((one for _, one in outcomes.by_key([asked], task_id=task_id)), None)
    return outcomes.by_id(asked)
