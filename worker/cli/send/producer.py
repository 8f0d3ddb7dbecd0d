# mypy: disallow-untyped-calls=False
"""Puts envelopes on the queue, as any other producer does: plain Celery, one connection."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from celery import Celery
from kombu.entity import Queue

from worker.cli.errors import CommandError
from worker.envelope.wire import INBOUND, RECEIVE
from worker.queue.broker import ERRORS, broker_name, is_amqp

_HIDDEN: Final = "(hidden)"
"""Stands in the message's headers for what somebody wrote: Flower and logs show these."""
_REDIS: Final = {"socket_timeout": 5, "socket_connect_timeout": 3, "socket_keepalive": True}
_AMQP: Final = {"confirm_publish": True, "read_timeout": 5, "write_timeout": 5}


class Producer:
    """An open connection to the broker."""

    def __init__(self, app: Celery, connection: Any, broker_url: str) -> None:  # noqa: ANN401 - kombu has no types
        self._app = app
        self._url = broker_url
        self._producer = app.amqp.Producer(connection)

    def send(self, envelope: Mapping[str, object]) -> None:
        """Queue one envelope. Raises `CommandError` when the broker does not take it."""
        try:
            self._app.send_task(
                RECEIVE,
                kwargs={"envelope": envelope},
                queue=Queue(INBOUND, no_declare=True),  # the workers say what it is like
                mandatory=True,  # on RabbitMQ: an error while there is no queue
                argsrepr=_HIDDEN,
                kwargsrepr=_HIDDEN,
                producer=self._producer,
                ignore_result=True,
                retry=False,
            )
        except ERRORS as error:
            raise broker_is_away(error, self._url) from error


@contextmanager
def producer(broker_url: str) -> Iterator[Producer]:
    """Connect to the broker. Raises `CommandError` when it is away."""
    app = Celery("worker-cli", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        broker_transport_options=_AMQP if is_amqp(broker_url) else _REDIS,
    )
    with app.connection_for_write() as connection:
        try:
            connection.ensure_connection(max_retries=1)
        except ERRORS as error:
            raise broker_is_away(error, broker_url) from error
        yield Producer(app, connection, broker_url)


def broker_is_away(error: Exception, broker_url: str) -> CommandError:
    """Say so without the URL, which holds a password."""
    kind = type(error.__cause__ or error).__name__
    return CommandError(
        f"{broker_name(broker_url)}: {kind}. Is it running, and is BROKER_URL right?"
    )
