"""The models this account may use."""

from worker.telnyx.answers.rows import rows_of
from worker.telnyx.http.client_per_thread import Wire


class Models:
    """`TelnyxClient.models`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def list_ids(self) -> tuple[str, ...]:
        """Return the ids, spelled as an agent's `model` has to be. Raises WorkerError."""
        answer = self._wire.call("list models", "GET", "/ai/openai/models")
        rows = rows_of("list models", answer)
        return tuple(found for row in rows if isinstance(found := row.get("id"), str))
