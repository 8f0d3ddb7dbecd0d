"""Resets conversations and adopts others: the use cases behind `worker conversations`.

Both refuse while a worker is busy with the channel user, or while Telnyx may still execute a call.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from worker.domain.errors import WorkerError
from worker.domain.ids import ChannelUserId, ConversationId, TelnyxConversationId, TurnId
from worker.domain.routing import Routing
from worker.domain.states import TurnKind
from worker.domain.text.normal_forms import same_text
from worker.domain.turns.records import OpenTurn
from worker.handlers.operators.take_user import (
    NotNowError,
    NotPossibleError,
    agent_of,
    take_for_changes,
)
from worker.handlers.turns.find_conversation import USER_KEY, user_tag
from worker.observability.logs import log
from worker.store.operators.interventions import ConversationOwner, InterventionStore, LockedUser
from worker.store.reports.conversations import ConversationReports
from worker.telnyx.conversations import Conversations


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """The result of a reset, with the fields of its JSON."""

    user: ChannelUserId
    agent: str | None
    closed: ConversationId | None = None
    """None = no conversation was open."""
    open_turn: TurnId | None = None
    """The open turn, which continues with a new conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """The result of an adoption, with the fields of its JSON."""

    user: ChannelUserId
    agent: str
    conversation: ConversationId
    base_user_messages: int
    open_turn: TurnId | None
    """The open turn, which continues there."""
    telnyx_told: bool
    """Whether Telnyx stored our tag; the mapping is valid without it."""


def reset_conversation(
    store: InterventionStore, user_id: ChannelUserId, agent: str | None = None
) -> Reset:
    """Close the open mapping; the next turn, and an open one, get a new conversation.

    Raises `NotNowError`, `NotPossibleError` and `StaleLeaseError`.
    """
    user = take_for_changes(store, user_id)
    agent = agent_of(user, agent) if user.open else agent
    conversation = user.conversation(agent) if agent else None
    if conversation is None:
        return Reset(user=user_id, agent=agent)
    turn_id = store.reset(user, conversation)
    log.info("conversation.reset", user=user_id, conversation=conversation.id, turn=turn_id)
    return Reset(user=user_id, agent=agent, closed=conversation.id, open_turn=turn_id)


@dataclass(frozen=True, kw_only=True)
class AdoptConversation:
    """Maps a channel user to an existing Telnyx conversation."""

    store: InterventionStore
    ledger: ConversationReports
    telnyx: Conversations
    routing: Routing
    namespace: UUID

    def __call__(
        self,
        user_id: ChannelUserId,
        telnyx_id: TelnyxConversationId,
        agent: str | None = None,
        *,
        force: bool = False,
    ) -> Adopted:
        """Adopt, or re-base if the mapping has this conversation already.

        `force`: even if it is tagged for another user. Raises `NotNowError`, `NotPossibleError`,
        `NotFoundError` (Telnyx has no such conversation), `StaleLeaseError`.
        """
        user = take_for_changes(self.store, user_id)
        agent = self.routing.agent(agent_of(user, agent)).name
        if not self.routing.channel(user.who.channel).persist:
            raise NotPossibleError("this channel is stateless: it uses no conversations")
        was = self._owner(telnyx_id, user_id, agent)
        tag = user_tag(self.namespace, user.who, agent)
        # By the tag, else two channel users could continue one conversation.
        metadata = self.telnyx.get(telnyx_id).metadata
        if metadata.get(USER_KEY, tag) != tag and not force:
            raise NotPossibleError("it has the tag of another channel user or agent: see --force")
        tags = {USER_KEY: tag, "channel": user.who.channel, "agent": agent, "source": "worker"}
        return self._adopt(user, was, telnyx_id, agent, {**metadata, **tags})

    def _adopt(
        self,
        user: LockedUser,
        was: ConversationOwner | None,
        telnyx_id: TelnyxConversationId,
        agent: str,
        metadata: Mapping[str, str],
    ) -> Adopted:
        users = [one.text for one in self.telnyx.messages(telnyx_id) if one.role == "user"]
        turn = user.turn_of(agent)
        there = self._may_be_there(turn, was, users)
        conversation = self.store.adopt(
            user,
            telnyx_id,
            agent=agent,
            base=len(users) - there,
            was=was.id if was else None,
            turn_may_be_there=there,
        )
        log.info("conversation.adopted", user=user.lease.user_id, conversation=conversation)
        return Adopted(
            user=user.lease.user_id,
            agent=agent,
            conversation=conversation,
            base_user_messages=len(users) - there,
            open_turn=turn.id if turn else None,
            telnyx_told=self._tag(telnyx_id, metadata),
        )

    def _owner(
        self, telnyx_id: TelnyxConversationId, user_id: ChannelUserId, agent: str
    ) -> ConversationOwner | None:
        """Return our mapping of it; None = we have none. Raises `NotPossibleError`."""
        was = self.store.owner(telnyx_id)
        if was is None:
            return None
        if was.user_id != user_id:
            raise NotPossibleError(f"it belongs to channel user {was.user_id}")
        if was.agent != agent:
            raise NotPossibleError(f"it is the conversation with agent {was.agent}: see --agent")
        if was.owes_outputs:
            raise NotPossibleError("its thread waits for outputs of tools: reset instead")
        return was

    def _may_be_there(
        self, turn: OpenTurn | None, was: ConversationOwner | None, users: Sequence[str]
    ) -> bool:
        """Whether the open turn may be the thread's newest user message, and must be reconciled."""
        if turn is None or was is None or turn.conversation_id != was.id:
            return False
        if turn.kind is TurnKind.HUMAN:
            raise NotNowError(f"turn {turn.id} is being added to this conversation: try again soon")
        if not any(call.conversation_id == was.id for call in turn.calls):
            return False
        landed = [one for one in self.ledger.turns(was.id) if one.landed]
        texts = [one.input_text for one in landed]
        ours = users[was.base_user_messages :]
        surplus = _count(ours, turn.input_text) - _count(texts, turn.input_text)
        if surplus <= 0:
            return False
        if any(one.is_redacted for one in landed):
            raise NotPossibleError(
                f"the words of turn {turn.id} may be in the thread, or those of an earlier turn"
                " whose words are gone here: reset instead"
            )
        if not same_text(users[-1], turn.input_text):
            raise NotPossibleError(
                f"the words of turn {turn.id} may be in the thread, before others: reset instead"
            )
        return True

    def _tag(self, telnyx_id: TelnyxConversationId, metadata: Mapping[str, str]) -> bool:
        try:
            # The full map: whether Telnyx merges or replaces is not documented.
            self.telnyx.update_metadata(telnyx_id, metadata)
        except WorkerError as error:
            log.warning("conversation.tag_failed", error=str(error))
            return False
        return True


def _count(texts: Sequence[str], wanted: str) -> int:
    return sum(same_text(one, wanted) for one in texts)
