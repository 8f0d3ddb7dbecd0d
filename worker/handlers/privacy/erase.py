"""Erases a channel user: the use case behind `worker erase`.

The order makes it repeatable. Telnyx comes before Postgres, because Postgres holds the ids that are
deleted there; the user's own row goes last, because everything else is found by it.
"""

from collections import Counter
from dataclasses import dataclass
from uuid import UUID

from worker.domain.errors import DatabaseAwayError, NotFoundError, RetryableError, WorkerError
from worker.domain.ids import ChannelUserId
from worker.domain.messages import ChannelAddress
from worker.domain.routing import Routing
from worker.handlers.operators.take_user import NotNowError, take_free
from worker.handlers.privacy.ownership import Ownership
from worker.handlers.turns.find_conversation import USER_KEY, user_tag
from worker.observability.logs import log
from worker.queue.entries import QueueEntries
from worker.store.operators.interventions import InterventionStore
from worker.store.privacy.erasures import ErasureStore
from worker.store.privacy.raw_bytes import TABLES, RawStore
from worker.telnyx.conversations import Conversations


@dataclass(frozen=True, kw_only=True)
class EraseUser:
    """Removes everything about one channel user. `queues`: None = there are no entries in Redis."""

    store: ErasureStore
    interventions: InterventionStore
    raw: RawStore
    telnyx: Conversations
    routing: Routing
    namespace: UUID

    def count(self, user_id: ChannelUserId, queues: QueueEntries | None) -> dict[str, int]:
        """Count what there is to remove, as far as it is known here. Changes nothing."""
        belongs = self._ownership(self.store.who(user_id))
        found = Counter(self.store.count(user_id, belongs.policy.scope))
        for table in TABLES:
            found[table] += sum(1 for _ in self.raw.scan(table, belongs))
        found["telnyx_conversations"] = len(self.store.at_telnyx(user_id)[0])
        found["queue_entries"] = queues.remove(belongs, dry_run=True) if queues else 0
        return {name: number for name, number in found.items() if number}

    def __call__(self, user_id: ChannelUserId, queues: QueueEntries | None) -> dict[str, int]:
        """Erase, and return what was removed, by earlier runs too. Safe to repeat at any point.

        From the first call on nothing new starts for the user. Raises `NotNowError` (a worker or
        Telnyx is busy with them), `RetryableError` (Telnyx did not delete everything: the user
        stays blocked and no row was deleted), `NotFoundError` and `StaleLeaseError`.
        """
        who = self.store.who(user_id)
        belongs = self._ownership(who)
        self.store.stop(user_id)
        if queues:
            self.store.note(user_id, "queue_entries", queues.remove(belongs))
        lease = take_free(self.interventions, user_id).lease
        # Asked after the user was taken: a turn that ended in between may have a reply, too.
        if self.store.still_delivers(user_id):
            raise NotNowError("a reply of this channel user is being delivered: try again soon")
        if queues:
            # A living worker is about to accept an entry that it has taken, and those of a dead one
            # come back to the queue. Only while no worker lives can they be removed.
            taken = queues.in_hand(belongs)
            if taken and self.store.workers():
                fault = "a worker has taken a message of this channel user: try again soon"
                raise NotNowError(fault)
            self.store.note(user_id, "queue_entries", queues.forget(taken, belongs))
        self._forget_at_telnyx(user_id, who)
        # The inbox first: a row that is drained meanwhile may become a dead letter.
        for table in reversed(TABLES):
            ids = [row_id for row_id, _ in self.raw.scan(table, belongs)]
            self.store.note(user_id, table, self.raw.delete_rows(table, ids))
        removed = self.store.remove(lease, belongs.policy.scope)
        log.info("user.erased", user=user_id)
        return removed

    def _ownership(self, who: ChannelAddress) -> Ownership:
        return Ownership(who=who, policy=self.routing.channel(who.channel))

    def _forget_at_telnyx(self, user_id: ChannelUserId, who: ChannelAddress) -> None:
        found, agents = self.store.at_telnyx(user_id)
        deleted = 0
        try:
            for agent in sorted(agents | set(self.routing.agents)):
                tag = user_tag(self.namespace, who, agent)
                # Found by metadata, too: the answer to a creation may have been lost.
                found += [one.id for one in self.telnyx.find({USER_KEY: tag})]
            for one in dict.fromkeys(found):
                try:
                    self.telnyx.delete(one)
                except NotFoundError:
                    log.info("conversation.gone_already", conversation=str(one))
                else:
                    # One by one: a run that is killed must not lose count of what is gone.
                    self.store.note(user_id, "telnyx_conversations", 1)
                    deleted += 1
        except DatabaseAwayError:
            raise
        except WorkerError as error:
            raise RetryableError(
                f"Telnyx has deleted {deleted} conversations and not all of them ({error})."
                " The rows are still here: run it again"
            ) from error
