"""Telnyx's HTTP API as this service uses it, and nothing more of it."""

from ssl import SSLContext
from typing import Self

from pydantic import SecretStr

from worker.telnyx.answers.rows import rows_of
from worker.telnyx.conversations import Conversations
from worker.telnyx.http.connection_per_thread import (
    CALL_TIMEOUT_S,
    KEEPALIVE_S,
    ConnectionPerThread,
)
from worker.telnyx.responses import Responses


class Models:
    """`TelnyxClient.models`: the models this account may use."""

    def __init__(self, http: ConnectionPerThread) -> None:
        self._http = http

    def list_ids(self) -> tuple[str, ...]:
        """Return the ids, spelled as an agent's `model` has to be. Raises WorkerError."""
        answer = self._http.call("list models", "GET", "/ai/openai/models")
        rows = rows_of("list models", answer)
        return tuple(found for row in rows if isinstance(found := row.get("id"), str))


class TelnyxClient:
    """One for all threads of a process, built after any fork."""

    def __init__(
        self,
        api_key: SecretStr,
        *,
        base_url: str,
        tls: SSLContext | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        keepalive_s: float = KEEPALIVE_S,
    ) -> None:
        """`tls` None: the authorities that httpx brings. `timeout_s`: of all but a response."""
        self._http = ConnectionPerThread(
            base_url,
            api_key,
            tls=tls,
            timeout_s=timeout_s,
            keepalive_s=keepalive_s,
        )
        self.conversations = Conversations(self._http)
        self.responses = Responses(self._http)
        self.models = Models(self._http)

    def __repr__(self) -> str:
        host, port = self._http.address
        return f"<TelnyxClient {host}:{port}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, when no call runs any more."""
        self._http.close()
