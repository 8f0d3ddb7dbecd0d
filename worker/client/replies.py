"""Waiting for the answer to a message, by looking at the view `message_outcomes`."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from worker.client.errors import ProducerError

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.5
_CONNECT_S: Final = 10
_LOOK: Final = """
    SELECT message, outcome, text, source, delivery, accepted_at, finished_at, delivered_at
    FROM message_outcomes
    WHERE (%(message)s::bigint IS NULL OR message = %(message)s)
      AND (%(message_id)s::text IS NULL OR (channel = %(channel)s AND recipient = %(recipient)s
           AND "user" = %(user)s AND thread = %(thread)s AND message_id = %(message_id)s))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a message ended."""

    message: int
    """The service's own id of it."""
    outcome: str
    """`answered`, `fallback`, or why there is no answer: see the reference of the envelope."""
    text: str | None
    """The reply; None where there is none."""
    source: str | None
    """`call`, `adopted`, `fallback` or `human`."""
    delivery: str | None
    """State of the reply's delivery when this was read."""
    accepted_at: datetime
    finished_at: datetime
    delivered_at: datetime | None


def wait_for_reply(
    database_url: str,
    *,
    message: int | None = None,
    channel: str | None = None,
    user: str | None = None,
    message_id: str | None = None,
    recipient: str = "",
    thread: str = "",
    timeout_s: float = 60.0,
) -> Outcome | None:
    """Give how a message ended; None = it has not within `timeout_s`, or is not accepted yet.

    Name it by the service's id (`message`), or by channel, user and message_id (and recipient and
    thread, where it had them). The database user needs SELECT on `message_outcomes`. Raises
    `ProducerError` where the database cannot be asked.
    """
    named = None not in (channel, user, message_id)
    if (message is None) != named or (message is not None and message_id is not None):
        raise ProducerError("give either message, or channel, user and message_id", field="message")
    try:
        import psycopg  # noqa: PLC0415 - who only sends needs no driver
        from psycopg.rows import dict_row  # noqa: PLC0415
    except ImportError:
        raise ProducerError("database_url: install psycopg", field="database_url") from None
    values = {
        "message": message,
        "channel": channel,
        "recipient": recipient,
        "user": user,
        "thread": thread,
        "message_id": message_id,
    }
    deadline, pause_s = time.monotonic() + timeout_s, _FIRST_PAUSE_S
    try:
        with psycopg.connect(
            database_url,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=_CONNECT_S,
            row_factory=dict_row,
        ) as connection:
            while True:
                row = connection.execute(_LOOK, values).fetchone()
                if row is not None and row["outcome"] is not None:
                    return Outcome(**row)
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return None
                time.sleep(min(pause_s, left_s))
                pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
    except psycopg.Error as error:
        kind = type(error).__name__
    # Not inside the handler: the driver's message may quote values.
    raise ProducerError(f"the database could not be asked ({kind})")
