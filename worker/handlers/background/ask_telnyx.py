"""Asks Telnyx whether it has a conversation of ours that Postgres does not know of."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from worker.domain.errors import DatabaseAwayError, WorkerError
from worker.domain.ids import TelnyxConversationId, installation_tag
from worker.domain.turns.records import Conversation
from worker.handlers.turns.find_conversation import (
    INSTALLATION_KEY,
    MAPPING_KEY,
    SOURCE,
)
from worker.net.clock import boottime
from worker.observability.logs import log
from worker.store.complete import Completeness, CompletenessStore, Question
from worker.store.database import Database
from worker.telnyx.conversations import Conversations

EVERY_S = 3600.0
"""After an answer that some are unknown."""
_LOOK_EVERY_S = 15.0


@dataclass(kw_only=True)
class AskTelnyx:
    """Once for each run of Postgres, by one of all processes.

    If all are known, new people need no look-up at Telnyx before their conversation is created.
    """

    store: CompletenessStore
    telnyx: Conversations
    namespace: UUID
    _due_at: float = 0.0

    @classmethod
    def of(
        cls, database: Database, telnyx: Conversations, *, namespace: UUID, settle_s: float
    ) -> Self:
        """Build it for the installation of this namespace."""
        installation = installation_tag(namespace)
        store = CompletenessStore(database, installation=installation, settle_s=settle_s)
        return cls(store=store, telnyx=telnyx, namespace=namespace)

    def __call__(self) -> None:
        """Ask if it is due. Raises `DatabaseAwayError`."""
        if boottime() < self._due_at:
            return
        self._due_at = boottime() + _LOOK_EVERY_S
        question = self.store.ask(every_s=EVERY_S)
        if question is None:
            return
        try:
            unknown = self.look(question)
        except DatabaseAwayError:
            raise
        except WorkerError as error:
            log.warning("conversations.not_listed", error=str(error))
            return
        if unknown:
            log.warning("conversations.unknown", count=len(unknown))

    def look_now(self, *, ignore: bool) -> list[TelnyxConversationId] | None:
        """Return the conversations that are unknown here; None = that cannot be known now.

        `ignore`: commit that there are none, without a look. Raises as `look` does.
        """
        question = self.store.ask(every_s=0)
        if question is None:
            return [] if self.store.state() is Completeness.COMPLETE else None
        if ignore:
            return [] if self.store.record(question) else None
        return self.look(question)

    def look(self, question: Question) -> list[TelnyxConversationId]:
        """Return the conversations unknown here; commit if there is none. Raises `WorkerError`."""
        ours = str(installation_tag(self.namespace))
        # The first time those of older releases, which lack the tag, are looked at as well.
        metadata = SOURCE if question.since is None else {INSTALLATION_KEY: ours}
        found = list(_ours(self.telnyx.find(metadata, since=question.since), ours))
        unknown = self.store.unknown(found)
        if not unknown and self.store.record(question):
            log.info("conversations.complete")
        return unknown


def _ours(
    found: tuple[Conversation, ...], ours: str
) -> Iterator[tuple[TelnyxConversationId, UUID | None]]:
    """Yield those of this installation, or of one that is not known, with their mapping's key."""
    for one in found:
        if one.metadata.get(INSTALLATION_KEY, ours) != ours:
            continue
        try:
            key = UUID(one.metadata[MAPPING_KEY])
        except (KeyError, ValueError):
            key = None
        yield one.id, key
