"""The threads: kept in memory, changed only by events that are in the log first.

`apply` is the whole of persistence: the same events from an old log rebuild the same threads.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from worker.sandbox.simulator.record.events import (
    ConversationCreated,
    ConversationDeleted,
    ConversationUpdated,
    Event,
    IdempotencyKept,
    MessageExtended,
    MessageStored,
)
from worker.sandbox.simulator.record.log import EventLog
from worker.sandbox.simulator.record.values import Conversation, Draft, Message, prefix_hash

_TICK = timedelta(microseconds=1)


class Store:
    """Conversations, their threads and the answers kept for idempotency keys."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._conversations: dict[str, Conversation] = {}
        self._threads: dict[str, list[Message]] = {}
        self._kept: dict[str, IdempotencyKept] = {}
        for entry in log.entries():
            self._apply(entry.event)

    def conversations(self) -> tuple[Conversation, ...]:
        """All of them, oldest first."""
        return tuple(self._conversations.values())

    def conversation(self, conversation_id: str) -> Conversation | None:
        """None: never there, or deleted."""
        return self._conversations.get(conversation_id)

    def thread(self, conversation_id: str) -> tuple[Message, ...]:
        """Return the messages of a conversation in the order in which they were stored."""
        return tuple(self._threads.get(conversation_id, ()))

    def kept(self, scope: str) -> IdempotencyKept | None:
        """Return the answer kept under an idempotency key's scope, however old."""
        return self._kept.get(scope)

    def keep(self, kept: IdempotencyKept) -> None:
        """Keep an answer for replays."""
        self._record(kept)

    def create(self, request: int, *, name: str, metadata: dict[str, str]) -> Conversation:
        """Store a new conversation."""
        now = datetime.now(UTC)
        conversation = Conversation(
            id=str(uuid4()), created_at=now, last_message_at=now, metadata=metadata, name=name
        )
        self._record(ConversationCreated(request=request, conversation=conversation))
        return conversation

    def update(self, request: int, conversation_id: str, metadata: dict[str, str]) -> None:
        """Put these metadata in place of the old ones."""
        self._record(
            ConversationUpdated(request=request, conversation_id=conversation_id, metadata=metadata)
        )

    def delete(self, request: int | None, conversation_id: str) -> None:
        """Forget a conversation and its thread."""
        self._record(ConversationDeleted(request=request, conversation_id=conversation_id))

    def add(
        self,
        request: int | None,
        conversation_id: str,
        drafts: Iterable[Draft],
        *,
        sent_at: datetime | None = None,
    ) -> None:
        """Append messages; nothing happens to a thread that is gone."""
        for draft in drafts:
            thread = self._threads.get(conversation_id)
            if thread is None:
                return
            latest = thread[-1].created_at + _TICK if thread else datetime.min.replace(tzinfo=UTC)
            created_at = max(datetime.now(UTC), latest)
            message = Message(
                role=draft.role,
                text=draft.text,
                origin=draft.origin,
                tool_calls=draft.tool_calls,
                tool_call_id=draft.tool_call_id,
                metadata=draft.metadata,
                created_at=created_at,
                sent_at=sent_at or created_at,
            )
            self._record(
                MessageStored(
                    request=request,
                    conversation_id=conversation_id,
                    index=len(thread),
                    message=message,
                    prefix=prefix_hash(thread) if draft.origin == "output" else None,
                )
            )

    def extend_last(self, request: int, conversation_id: str, text: str) -> None:
        """Merge more words into the last message of a thread."""
        thread = self._threads[conversation_id]
        self._record(
            MessageExtended(
                request=request,
                conversation_id=conversation_id,
                index=len(thread) - 1,
                text=f"{thread[-1].text or ''} {text}".strip(),
            )
        )

    def _record(self, event: Event) -> None:
        self._log.append(event)
        self._apply(event)

    def _apply(self, event: Event) -> None:
        match event:
            case ConversationCreated(conversation=conversation):
                self._conversations[conversation.id] = conversation
                self._threads[conversation.id] = []
            case ConversationUpdated(conversation_id=key, metadata=metadata):
                self._conversations[key] = replace(self._conversations[key], metadata=metadata)
            case ConversationDeleted(conversation_id=key):
                self._conversations.pop(key, None)
                self._threads.pop(key, None)
            case MessageStored(conversation_id=key, message=message):
                self._threads[key].append(message)
                self._conversations[key] = replace(
                    self._conversations[key], last_message_at=message.created_at
                )
            case MessageExtended(conversation_id=key, index=index, text=text):
                self._threads[key][index] = replace(self._threads[key][index], text=text)
            case IdempotencyKept(scope=scope):
                self._kept[scope] = event
            case _:
                pass
