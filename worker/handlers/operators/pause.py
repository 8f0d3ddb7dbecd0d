"""Pauses and resumes channel users: the use case behind `worker pause` and `worker resume`."""

from dataclasses import dataclass

from worker.domain.errors import WorkerError
from worker.domain.ids import ChannelUserId
from worker.observability.logs import log
from worker.store.operators.users import UserStore
from worker.telnyx.conversations import Conversations

AI_DISABLED = "ai_disabled"
"""Telnyx's reserved key: its own products do not answer such a conversation."""


@dataclass(frozen=True, kw_only=True)
class PauseUser:
    """Lets a person take over a channel user, and hand them back."""

    users: UserStore
    telnyx: Conversations

    def pause(self, user_id: ChannelUserId) -> bool:
        """Stop answering; return whether Telnyx was updated, too. Only our own state matters."""
        # Ours first: workers read it. Telnyx only mirrors it, and may be away.
        self.users.set_paused(user_id, paused=True)
        log.info("user.paused", user=user_id)
        return self._mirror(user_id, disabled=True)

    def resume(self, user_id: ChannelUserId) -> bool:
        """Answer new messages again; the backlog is not answered."""
        self.users.set_paused(user_id, paused=False)
        log.info("user.resumed", user=user_id)
        return self._mirror(user_id, disabled=False)

    def _mirror(self, user_id: ChannelUserId, *, disabled: bool) -> bool:
        try:
            for conversation in self.users.open_conversations(user_id):
                # The full map: whether Telnyx merges or replaces is not documented.
                metadata = dict(self.telnyx.get(conversation).metadata)
                metadata.pop(AI_DISABLED, None)
                if disabled:
                    metadata[AI_DISABLED] = "true"
                self.telnyx.update_metadata(conversation, metadata)
                if not disabled and AI_DISABLED in self.telnyx.get(conversation).metadata:
                    # Telnyx merges: a key that was left out is still there.
                    self.telnyx.update_metadata(conversation, {**metadata, AI_DISABLED: "false"})
        except WorkerError as error:
            log.warning("user.mirror_failed", user=user_id, error=str(error))
            return False
        return True
