"""Pauses and resumes channel users: the use case behind `worker pause` and `worker resume`."""

from worker.domain.errors import WorkerError
from worker.domain.ids import ChannelUserId
from worker.observability.logs import log
from worker.store.operators.users import UserStore
from worker.telnyx.conversations import Conversations

AI_DISABLED = "ai_disabled"
"""Telnyx's reserved key: its own products do not answer such a conversation."""


def set_paused(
    user_id: ChannelUserId, *, paused: bool, users: UserStore, telnyx: Conversations
) -> bool:
    """Let a person take over, or end that (not for the backlog); return whether Telnyx knows."""
    # Ours first: workers read it. Telnyx only mirrors it, and may be away.
    users.set_paused(user_id, paused=paused)
    log.info("user.paused" if paused else "user.resumed", user=user_id)
    try:
        for conversation in users.open_conversations(user_id):
            # The full map: whether Telnyx merges or replaces is not documented.
            metadata = dict(telnyx.get(conversation).metadata)
            metadata.pop(AI_DISABLED, None)
            if paused:
                metadata[AI_DISABLED] = "true"
            telnyx.update_metadata(conversation, metadata)
            if not paused and AI_DISABLED in telnyx.get(conversation).metadata:
                # Telnyx merges: a key that was left out is still there.
                telnyx.update_metadata(conversation, {**metadata, AI_DISABLED: "false"})
    except WorkerError as error:
        log.warning("user.mirror_failed", user=user_id, error=str(error))
        return False
    return True
