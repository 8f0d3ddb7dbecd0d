"""Telnyx's HTTP API as this service uses it, and nothing more of it."""

from ssl import SSLContext
from typing import Self

from pydantic import SecretStr

from worker.telnyx.conversations import Conversations
from worker.telnyx.http.client_per_thread import CALL_TIMEOUT_S, Wire
from worker.telnyx.http.connection import KEEPALIVE_S
from worker.telnyx.models import Models
from worker.telnyx.responses import Responses

BASE_URL = "https://api.telnyx.com/v2"


class TelnyxClient:
    """One for all threads of a process, built after any fork."""

    def __init__(
        self,
        api_key: SecretStr,
        *,
        base_url: str = BASE_URL,
        tls: SSLContext | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        keepalive_s: float = KEEPALIVE_S,
    ) -> None:
        """`tls` None: `transport.tls_context()`. `timeout_s`: of every call but a response."""
        self._wire = Wire(
            base_url,
            api_key,
            tls=tls,
            timeout_s=timeout_s,
            keepalive_s=keepalive_s,
        )
        self.conversations = Conversations(self._wire)
        self.responses = Responses(self._wire)
        self.models = Models(self._wire)

    def __repr__(self) -> str:
        return f"<TelnyxClient {self._wire.target.host}:{self._wire.target.port}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up, when no call runs any more."""
        self._wire.close()
