"""Telnyx's conversations: made, found by metadata, read. The mapping's truth is in Postgres."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode
from uuid import UUID

from worker.domain.errors import OutcomeUnknownError, RetryableError
from worker.domain.ids import TelnyxConversationId
from worker.domain.turns.records import Conversation, ThreadMessage
from worker.net.answer import Answer
from worker.telnyx.answers.rows import conversation_in, conversation_of, read_log, rows_of
from worker.telnyx.http.connection_per_thread import ConnectionPerThread, encode

PATH = "/ai/conversations"
_LIMIT = 100
_MAX_PAGES = 50


class Conversations:
    """`TelnyxClient.conversations`. One call each; `find` and `messages` one a page.

    All raise RetryableError, OperatorError and PermanentError; those that change something also
    OutcomeUnknownError, after which the caller looks before it repeats the call.
    """

    def __init__(self, http: ConnectionPerThread) -> None:
        self._http = http

    def create(self, remote_key: UUID, name: str, metadata: Mapping[str, str]) -> Conversation:
        """Create under the idempotency key `remote_key`; the same arguments make the same bytes.

        RetryableError on 409: the first attempt still runs. ConflictError: the key belongs to
        another body.
        """
        what = "create conversation"
        # Sorted: the same key with other bytes is a 422 (ConflictError).
        body = encode({"name": name, "metadata": dict(sorted(metadata.items()))})
        answer = self._http.call(what, "POST", PATH, body, idempotency_key=str(remote_key))
        return conversation_in(what, answer, OutcomeUnknownError)

    def find(
        self, metadata: Mapping[str, str], *, since: datetime | None = None
    ) -> tuple[Conversation, ...]:
        """Return all conversations whose metadata hold all these pairs, oldest first.

        `since`: those created then or later; None = all.

        A conversation made just before may be missing. Telnyx's filter is not trusted: rows that do
        not match are dropped here.
        """
        if not metadata:
            raise ValueError("without a filter this would list the account")
        found = {
            conversation.id: conversation
            for row in self._walk(metadata, since)
            if (conversation := conversation_of(row)) is not None
            and metadata.items() <= conversation.metadata.items()
        }
        return tuple(found.values())

    def _walk(
        self, metadata: Mapping[str, str], begin: datetime | None
    ) -> Iterator[dict[str, object]]:
        """Continue at the last `created_at` until nothing new comes: there are no page numbers."""
        seen: set[object] = set()
        since: object = None if begin is None else begin.astimezone(UTC).isoformat()
        for _ in range(_MAX_PAGES):
            rows = rows_of("find", self._http.call("find", "GET", find_path(metadata, since)))
            # `gte`, and rows of one instant may be split between pages: those seen come again.
            fresh = [row for row in rows if str(row.get("id")) not in seen]
            yield from fresh
            seen.update(str(row.get("id")) for row in fresh)
            since = rows[-1].get("created_at") if rows else None
            if not fresh or not isinstance(since, str):
                return
        raise RetryableError(f"find: more than {_MAX_PAGES} pages")

    def get(self, conversation_id: TelnyxConversationId) -> Conversation:
        """Return the conversation. NotFoundError: it is gone."""
        what = "get conversation"
        return conversation_in(what, self._http.call(what, "GET", f"{PATH}/{conversation_id}"))

    def update_metadata(
        self, conversation_id: TelnyxConversationId, metadata: Mapping[str, str]
    ) -> None:
        """Write the full map: whether Telnyx merges or replaces is not documented."""
        body = encode({"metadata": dict(metadata)})
        self._http.call("update conversation", "PUT", f"{PATH}/{conversation_id}", body)

    def delete(self, conversation_id: TelnyxConversationId) -> None:
        """Delete the conversation and its log. NotFoundError: it is gone already."""
        self._http.call("delete conversation", "DELETE", f"{PATH}/{conversation_id}")

    def messages(self, conversation_id: TelnyxConversationId) -> tuple[ThreadMessage, ...]:
        """Return the whole log, in order of `sent_at`. NotFoundError: the conversation is gone."""

        def page(number: int, size: int) -> Answer:
            query = f"page%5Bsize%5D={size}&page%5Bnumber%5D={number}"
            path = f"{PATH}/{conversation_id}/messages?{query}"
            return self._http.call("list messages", "GET", path)

        return read_log(page)

    def add_message(
        self,
        conversation_id: TelnyxConversationId,
        key: UUID,
        *,
        role: str,
        text: str,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Store one message; no model runs. `key`: the same one for the same message."""
        document: dict[str, object] = {"role": role, "content": text}
        if metadata:
            document["metadata"] = dict(sorted(metadata.items()))
        path = f"{PATH}/{conversation_id}/message"
        self._http.call("add message", "POST", path, encode(document), idempotency_key=str(key))


def find_path(metadata: Mapping[str, str], since: object = None) -> str:
    """Return path and query of the list.

    Telnyx's page "List conversations": one arrow, not two. `>` and `+` have to be encoded, else a
    `+` arrives as a space.
    """
    filters = [(f"metadata->{key}", f"eq.{value}") for key, value in sorted(metadata.items())]
    if since is not None:
        filters.append(("created_at", f"gte.{since}"))
    filters += [("order", "created_at.asc"), ("limit", str(_LIMIT))]
    return f"{PATH}?{urlencode(filters)}"
