"""Finds a user's Telnyx conversation: the mapping in Postgres, else by metadata, else a new one.

The metadata are asked for unless it is certain that Telnyx has none: see `worker.store.complete`.
"""

import json
from dataclasses import dataclass, replace
from uuid import UUID, uuid5

from worker.domain.ids import TelnyxConversationId, installation_tag
from worker.domain.messages import ChannelAddress
from worker.domain.turns.claim import Claimed
from worker.domain.turns.records import OpenConversation
from worker.store.turns.conversations import ConversationStore
from worker.telnyx.conversations import Conversations

USER_KEY = "worker_user"
"""The metadata key by which conversations are found again."""
INSTALLATION_KEY, MAPPING_KEY = "worker_installation", "worker_mapping"
SOURCE = {"source": "worker"}
"""In the metadata of all conversations, of other installations and older releases, too."""


def user_tag(namespace: UUID, who: ChannelAddress, agent: str) -> str:
    """Return a tag for a channel user and agent that does not reveal the address.

    `namespace` keeps staging and production apart on one Telnyx account.
    """
    parts = [who.channel, who.recipient, who.address, who.thread, agent]
    return str(uuid5(namespace, json.dumps(parts, ensure_ascii=False)))


@dataclass(frozen=True, kw_only=True)
class ConversationFinder:
    """Finds or creates the conversation of a claimed user."""

    store: ConversationStore
    telnyx: Conversations
    namespace: UUID

    def find(self, claimed: Claimed) -> OpenConversation:
        """Return the open conversation with its Telnyx id; the turn's next transaction commits it.

        Raises `RetryableError`, `OutcomeUnknownError` (look again later) and `StaleLeaseError`.
        """
        # Committed before Telnyx is asked: its `remote_key` makes a repeated create the same one.
        # If the answer is lost all the same, an empty conversation is left over, which is harmless.
        if claimed.conversation is None:
            claimed = self.store.ensure(claimed)
        mapping, who, agent = claimed.conversation, claimed.who, claimed.agent.name
        if mapping is None:
            raise ValueError("a claim without a mapping")
        if mapping.telnyx_id is not None:
            return mapping
        tag = user_tag(self.namespace, who, agent)
        # A conversation that was reset keeps its tag, and must not be found again.
        candidates = self.telnyx.find({USER_KEY: tag}) if mapping.may_exist else ()
        found = (one.id for one in candidates if one.id not in claimed.used)
        telnyx_id, base, behind = next(found, None), 0, False
        if telnyx_id is None:
            telnyx_id = self._create(mapping, who.channel, tag)
        elif self.store.has_lost_commits():
            # Its turns may be ours, and their messages may come again.
            behind = True
        else:
            base = sum(message.role == "user" for message in self.telnyx.messages(telnyx_id))
        return replace(
            mapping, telnyx_id=telnyx_id, base_user_messages=base, bound=False, behind=behind
        )

    def _create(self, mapping: OpenConversation, channel: str, tag: str) -> TelnyxConversationId:
        # Of the row alone, as the same `remote_key` has to come with the same bytes.
        metadata = {
            USER_KEY: tag,
            INSTALLATION_KEY: str(installation_tag(self.namespace)),
            MAPPING_KEY: str(mapping.remote_key),
            "channel": channel,
            "agent": mapping.agent,
            **SOURCE,
        }
        return self.telnyx.create(mapping.remote_key, f"{channel}:{tag}", metadata).id
