"""The mapping of channel users to Telnyx conversations, written by the holder of the lease."""

from dataclasses import replace
from uuid import UUID

from worker.domain.ids import TelnyxConversationId, TurnId
from worker.domain.turns.claim import Claimed
from worker.domain.turns.records import OpenConversation
from worker.store.complete import IS_COMPLETE
from worker.store.rows import CONVERSATION, value_of
from worker.store.sql import Connection, sql
from worker.store.turns.lease import LeasedStore

_OPEN = """FROM conversations
    WHERE channel_user_id = :user_id AND agent = :agent AND closed_at IS NULL"""
_ENSURE = sql(f"""
WITH made AS (
    INSERT INTO conversations (channel_user_id, agent) SELECT :user_id, :agent
    WHERE NOT EXISTS (SELECT {_OPEN}) RETURNING {CONVERSATION}, NOT {IS_COMPLETE} AS may_exist
)
SELECT one.*, ARRAY(SELECT telnyx_conversation_id FROM conversations
    WHERE channel_user_id = :user_id AND telnyx_conversation_id IS NOT NULL) AS used
FROM (SELECT * FROM made UNION ALL SELECT {CONVERSATION}, true {_OPEN}) AS one
""")
# Once only: turns are counted by the messages of the Telnyx conversation they landed in.
BIND = """
WITH bound AS (
    UPDATE conversations SET telnyx_conversation_id = :telnyx_id, base_user_messages = :base,
        compared_at = CASE WHEN :behind THEN CAST('-infinity' AS timestamptz) END
    WHERE id = :conversation_id AND telnyx_conversation_id IS NULL RETURNING id
), turn AS (
    UPDATE turns SET conversation_id = bound.id FROM bound WHERE turns.id = :turn_id
)"""
"""Commits the Telnyx conversation that was found or created for a mapping, and its turn's."""
_BIND = sql(BIND + " SELECT id FROM bound")
_REPLACED = sql("SELECT FROM cluster WHERE one AND replaced_at IS NOT NULL")
ATTACH = sql("UPDATE turns SET conversation_id = :conversation_id WHERE id = :turn_id")
"""Gives a turn its conversation."""
_COMPARED = sql("""
UPDATE conversations SET base_user_messages = base_user_messages + :skipped,
    compared_at = CASE WHEN :complete THEN service_now() ELSE compared_at END
WHERE id = :conversation_id
""")


class ConversationStore(LeasedStore):
    """For a claim that was made without a mapping, as if its channel had no conversations."""

    def ensure(self, claimed: Claimed) -> Claimed:
        """Commit an open mapping, and return the claim with it. Raises `StaleLeaseError`."""
        with self._leased(claimed.lease) as connection:
            return with_mapping(connection, claimed, self._installation)

    def has_lost_commits(self) -> bool:
        """Return whether this Postgres has ever been found to be another one."""
        return bool(self._rows(_REPLACED))

    def compared(
        self, claimed: Claimed, conversation: OpenConversation, *, skipped: int, complete: bool
    ) -> Claimed:
        """Commit what the log holds beyond the records; `complete`: it has been read to its end.

        The turn belongs to the conversation from now on. Raises `StaleLeaseError`.
        """
        turn = claimed.turn
        values = {
            "conversation_id": conversation.id,
            "turn_id": turn.id,
            "skipped": skipped,
            "complete": complete,
        }
        with self._leased(claimed.lease) as connection:
            if not conversation.bound:
                conversation = bind(connection, conversation, turn.id)
            connection.execute(_COMPARED, values)
            connection.execute(ATTACH, values)
        base = conversation.base_user_messages + skipped
        compared = replace(conversation, base_user_messages=base, behind=not complete)
        turn = replace(turn, conversation_id=conversation.id)
        return replace(claimed, conversation=compared, turn=turn)


def with_mapping(connection: Connection, claimed: Claimed, installation: UUID) -> Claimed:
    """Return the claim with an open mapping, which is committed before any call to Telnyx."""
    values = {
        "user_id": claimed.lease.user_id,
        "agent": claimed.agent.name,
        "installation": installation,
    }
    row = connection.execute(_ENSURE, values).one()
    return replace(
        claimed,
        conversation=value_of(OpenConversation, row),
        used=frozenset(map(TelnyxConversationId, row.used)),
    )


def bind(connection: Connection, conversation: OpenConversation, turn: TurnId) -> OpenConversation:
    """Commit the conversation of a mapping, the user messages that it holds, and its turn's."""
    connection.execute(_BIND, values_to_bind(conversation, turn)).one()
    return replace(conversation, bound=True)


def values_to_bind(conversation: OpenConversation, turn: TurnId) -> dict[str, object]:
    """Return the values of `BIND`."""
    return {
        "turn_id": turn,
        "conversation_id": conversation.id,
        "telnyx_id": conversation.telnyx_id,
        "base": conversation.base_user_messages,
        "behind": conversation.behind,
    }
