"""Erasing a channel user: the use case behind `worker erase`.

The order is what makes it repeatable. Telnyx comes before Postgres, because Postgres holds the ids
that are deleted there; his own row goes last of all, because everything is found by it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from worker.domain.errors import DatabaseAwayError, NotFoundError, RetryableError, WorkerError
from worker.domain.ids import ChannelUserId, TelnyxConversationId
from worker.domain.messages import ChannelAddress
from worker.domain.routing import Routing
from worker.handlers.operators.take_user import NotNowError, taken
from worker.handlers.privacy.ownership import Belonging
from worker.handlers.turns.find_conversation import USER_KEY, user_tag
from worker.observability.logs import log
from worker.store.operators.interventions import InterventionStore
from worker.store.privacy.erasures import ErasureStore
from worker.store.privacy.raw_bytes import RawStore
from worker.telnyx.conversations import Conversations


class Waiting(Protocol):
    """The broker's queues: what nobody has taken yet, and what was not acknowledged."""

    def remove(self, belongs: Callable[[bytes], bool], *, dry_run: bool = False) -> int:
        """Take his entries out of the queues; gives how many there were."""

    def in_hand(self, belongs: Callable[[bytes], bool]) -> Sequence[bytes]:
        """Give the keys of his entries that were taken and not acknowledged."""

    def forget(self, keys: Sequence[bytes]) -> int:
        """Let those not come back; gives how many there were."""


class NotErasedError(RetryableError):
    """Telnyx has not deleted everything. He is stopped; his rows are there."""


@dataclass(frozen=True, kw_only=True)
class EraseUser:
    """Removes everything about one channel user, here and at Telnyx."""

    store: ErasureStore
    interventions: InterventionStore
    raw: RawStore
    telnyx: Conversations
    routing: Routing
    namespace: UUID

    def count(self, user_id: ChannelUserId, waiting: Waiting) -> dict[str, int]:
        """Say what there is to remove, as far as it is known here. Changes nothing."""
        belongs = self._belonging(self.store.who(user_id))
        found = Counter(self.store.count(user_id))
        found["dead_letters"] += sum(1 for _ in self.raw.letters(belongs))
        found["inbox"] = sum(1 for _ in self.raw.inbox(belongs))
        found["telnyx_conversations"] = len(self.store.at_telnyx(user_id).conversations)
        found["queue_entries"] = waiting.remove(belongs, dry_run=True)
        return {name: number for name, number in found.items() if number}

    def __call__(self, user_id: ChannelUserId, waiting: Waiting) -> dict[str, int]:
        """Erase; gives what was removed, by earlier runs too. Safe to repeat, whatever stopped it.

        Raises `NotNowError` (somebody works on him, it will end), `NotErasedError`,
        `NotFoundError` and `StaleLeaseError`. From the first call on nothing new begins for him.
        """
        who = self.store.who(user_id)
        belongs = self._belonging(who)
        self.store.stop(user_id)
        self.store.note(user_id, "queue_entries", waiting.remove(belongs))
        lease = taken(self.interventions, user_id).lease
        if self.store.still_delivers(user_id):  # of a turn that ended since, too
            raise NotNowError("a reply of this channel user is being handed over: try again soon")
        self.store.note(user_id, "queue_entries", self._clear_notes(waiting, belongs))
        self._forget_at_telnyx(user_id, who)
        inbox = [one.id for one in self.raw.inbox(belongs)]
        self.store.note(user_id, "inbox", self.raw.delete_inbox(inbox))
        letters = [one.id for one in self.raw.letters(belongs)]
        self.store.note(user_id, "dead_letters", self.raw.delete_letters(letters))
        removed = self.store.remove(lease)
        log.info("user.erased", user=user_id)
        return removed

    def _belonging(self, who: ChannelAddress) -> Belonging:
        return Belonging(who=who, kind=self.routing.channel(who.channel).kind)

    def _clear_notes(self, waiting: Waiting, belongs: Callable[[bytes], bool]) -> int:
        """Clear what workers have taken and not acknowledged.

        One that lives is about to accept it, and what a dead one had comes back on the queue. Only
        where nobody lives it can just be taken away.
        """
        keys = waiting.in_hand(belongs)
        if keys and self.store.workers_live():
            raise NotNowError("a worker has taken a message of this channel user: try again soon")
        return waiting.forget(keys)

    def _forget_at_telnyx(self, user_id: ChannelUserId, who: ChannelAddress) -> None:
        known = self.store.at_telnyx(user_id)
        deleted = 0
        try:
            found = list(known.conversations)
            for agent in sorted(known.agents | set(self.routing.agents)):
                tag = user_tag(self.namespace, who, agent)
                # Also those that were made without our hearing of it.
                found += [one.id for one in self.telnyx.find({USER_KEY: tag})]
            for one in dict.fromkeys(found):
                if self._delete(one):
                    self.store.note(user_id, "telnyx_conversations", 1)
                    deleted += 1
        except DatabaseAwayError:
            raise
        except WorkerError as error:
            raise NotErasedError(
                f"Telnyx has deleted {deleted} conversations and not all of them ({error})."
                " The rows are still here: run it again"
            ) from error

    def _delete(self, conversation: TelnyxConversationId) -> bool:
        try:
            self.telnyx.delete(conversation)
        except NotFoundError:
            log.info("conversation.gone_already", conversation=str(conversation))
            return False
        return True
