"""Telnyx's HTTP API as this service uses it, and nothing more of it."""

from functools import cached_property

from worker.domain.errors import RetryableError
from worker.telnyx.answers.answer import read_json
from worker.telnyx.answers.rows import rows_of
from worker.telnyx.conversations import Conversations
from worker.telnyx.http.connection_per_thread import ConnectionPerThread
from worker.telnyx.messages import Messages
from worker.telnyx.responses import Responses


class TelnyxClient(ConnectionPerThread):
    """One for all threads of a process, built after any fork."""

    @cached_property
    def conversations(self) -> Conversations:
        """Conversations and their logs."""
        return Conversations(self)

    @cached_property
    def responses(self) -> Responses:
        """The Responses endpoint."""
        return Responses(self)

    @cached_property
    def messages(self) -> Messages:
        """Text messages."""
        return Messages(self)

    def model_ids(self) -> tuple[str, ...]:
        """Return the models of this account, spelled as an agent's `model`. Raises WorkerError."""
        rows = rows_of("list models", self.call("list models", "GET", "/ai/openai/models"))
        return tuple(found for row in rows if isinstance(found := row.get("id"), str))

    def public_key(self) -> str:
        """Return the key that Telnyx signs webhooks with, in base64. Raises WorkerError."""
        what = "read public key"
        match read_json(self.call(what, "GET", "/public_key").body):
            case {"data": {"public": str() as key}}:
                return key
            case _:
                raise RetryableError(f"{what}: unreadable answer")
