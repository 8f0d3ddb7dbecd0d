"""The mapping of channel users to Telnyx conversations."""

from worker.domain.ids import ConversationId, TelnyxConversationId
from worker.domain.turns.records import Lease, OpenConversation
from worker.store.rows import CONVERSATION, value_of
from worker.store.sql import sql
from worker.store.turns.lease import LeasedStore
from worker.store.turns.snapshot import read_conversation

_INSERT = sql(f"""
INSERT INTO conversations (channel_user_id, agent) VALUES (:user_id, :agent)
RETURNING {CONVERSATION}
""")
# Once only: turns are counted by the messages of the Telnyx conversation they landed in.
_BIND = sql(f"""
UPDATE conversations SET telnyx_conversation_id = :telnyx_id, base_user_messages = :base
WHERE id = :id AND telnyx_conversation_id IS NULL
RETURNING {CONVERSATION}
""")
_USED = sql("""
SELECT telnyx_conversation_id FROM conversations
WHERE channel_user_id = :user_id AND telnyx_conversation_id IS NOT NULL
""")


class ConversationStore(LeasedStore):
    """The mappings of channel users; every write checks the lease."""

    def ensure(self, lease: Lease, agent: str) -> OpenConversation:
        """Return the open mapping, which is committed before any call to Telnyx."""
        with self._leased(lease) as connection:
            found = read_conversation(connection, lease.user_id, agent)
            if found is not None:
                return found
            values = {"user_id": lease.user_id, "agent": agent}
            return value_of(OpenConversation, connection.execute(_INSERT, values).one())

    def used(self, lease: Lease) -> frozenset[TelnyxConversationId]:
        """Return all Telnyx conversations the user ever had: closed ones stay closed."""
        rows = self._rows(_USED, {"user_id": lease.user_id})
        return frozenset(TelnyxConversationId(row[0]) for row in rows)

    def bind(
        self,
        lease: Lease,
        conversation: ConversationId,
        telnyx_id: TelnyxConversationId,
        *,
        base_user_messages: int,
    ) -> OpenConversation:
        """Commit the Telnyx conversation of a mapping, and the user messages it already holds."""
        with self._leased(lease) as connection:
            values = {"id": conversation, "telnyx_id": telnyx_id, "base": base_user_messages}
            return value_of(OpenConversation, connection.execute(_BIND, values).one())
