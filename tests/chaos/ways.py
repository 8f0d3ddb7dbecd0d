"""The ways in, at least once each: what is not confirmed is brought again.

celery    plain Celery through Redis, one envelope a task
lists     the client library through Redis, up to eight envelopes a task
sql       the client library through Postgres: rows of the inbox
rabbitmq  the client library through RabbitMQ, if this machine has it
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from message_worker_client import Producer as Client
from message_worker_client import ProducerError
from tests.support.fleet import queued

LIST_SIZE = 8
_TIMEOUT_S = 3.0
Envelope = Mapping[str, object]


class Way(Protocol):
    """One way in."""

    def publish(self, envelopes: Sequence[Envelope]) -> int:
        """Return how many from the first on are confirmed."""

    def close(self) -> None: ...


@dataclass
class CeleryWay:
    """An app of somebody else."""

    broker_url: str
    _app: Celery | None = None

    def publish(self, envelopes: Sequence[Envelope]) -> int:
        confirmed = 0
        try:
            if self._app is None:
                self._app = _app(self.broker_url)
            for _ in queued(self._app, envelopes):
                confirmed += 1
        except (OperationalError, RedisError, OSError):
            self.close()
        return confirmed

    def close(self) -> None:
        if self._app is not None:
            self._app.close()
            self._app = None


@dataclass
class ClientWay:
    """The client library."""

    options: Mapping[str, Any]
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client(timeout_s=_TIMEOUT_S, **self.options)

    def publish(self, envelopes: Sequence[Envelope]) -> int:
        try:
            return self.client.send_many(envelopes)
        except ProducerError as error:
            return error.confirmed

    def close(self) -> None:
        self.client.close()


def ways(*, broker_url: str, database_url: str, rabbitmq_url: str | None) -> dict[str, Way]:
    """Give all of this machine; without RabbitMQ its people use Celery and Redis."""
    rabbitmq = ClientWay({"broker_url": rabbitmq_url}) if rabbitmq_url else CeleryWay(broker_url)
    return {
        "celery": CeleryWay(broker_url),
        "lists": ClientWay({"broker_url": broker_url, "list_size": LIST_SIZE}),
        "sql": ClientWay({"database_url": database_url}),
        "rabbitmq": rabbitmq,
    }


def _app(broker_url: str) -> Celery:
    app = Celery("producer", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_publish_retry=False,
        broker_transport_options={"socket_timeout": 2, "socket_connect_timeout": 1},
    )
    return app
