"""Ends messages that the model does not answer. One text may answer all of them."""

from collections.abc import Sequence
from datetime import datetime

from worker.domain.ids import ChannelUserId, MessageRowId
from worker.domain.screening.consents import ServiceText
from worker.domain.states import MessageState, ReplySource
from worker.store.consents import EXEMPT, stopped
from worker.store.rows import reply_with_delivery
from worker.store.sql import Connection, sql

_END = sql("""
UPDATE messages SET state = :state, outcome = :outcome, finished_at = service_now(),
    dropped_at = service_now()
WHERE id = ANY(:message_ids) AND state IN ('pending', 'skipped')
""")
# In a turn of its own that Telnyx never sees.
_END_WITH_TEXT = sql(
    """
WITH turn AS (
    INSERT INTO turns (channel_user_id, agent, agent_version, input_text, state, landed, failure,
        opened_at, finished_at)
    SELECT :user_id, min(agent), '', '', 'failed', false, :outcome, service_now(), service_now()
    FROM messages WHERE id = ANY(:message_ids) AND state IN ('pending', 'skipped')
    RETURNING id
), ended AS (
    UPDATE messages SET state = :state, outcome = :outcome, turn_id = turn.id,
        finished_at = service_now(), dropped_at = NULL
    FROM turn WHERE messages.id = ANY(:message_ids) AND messages.state IN ('pending', 'skipped')
)"""
    + reply_with_delivery(
        first_state="CAST(:delivery_state AS text)",
        exempt_until=f"""CASE WHEN {stopped()}
            THEN least(CAST(:said_at AS timestamptz), service_now()) + {EXEMPT} END""",
    )
    + " SELECT id FROM delivery"
)


def end_messages(
    connection: Connection,
    user_id: ChannelUserId,
    messages: Sequence[MessageRowId],
    outcome: str,
    *,
    state: MessageState = MessageState.SKIPPED,
    service: ServiceText | None = None,
    address_hash: bytes | None = None,
    said_at: datetime | None = None,
) -> None:
    """End these messages of a user whose row the caller has locked; send the text if there is one.

    `address_hash`: the sender's, whom the text reaches even if they have opted out, soon after
    `said_at`; None = now.
    """
    values: dict[str, object] = {"message_ids": list(messages), "state": state, "outcome": outcome}
    if service is None:
        connection.execute(_END, values)
        return
    values |= {
        "user_id": user_id,
        "text": service.text,
        "source": ReplySource.FALLBACK,
        "channel": service.way_out,
        "delivery_state": service.first_state,
        "address_hash": address_hash,
        "said_at": said_at,
    }
    connection.execute(_END_WITH_TEXT, values)
