"""Puts envelopes on the queue, as any other producer does: plain Celery, one connection."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from celery import Celery
from kombu.exceptions import OperationalError

from worker.cli.errors import CommandError

INBOUND: Final = "inbound"
RECEIVE: Final = "messages.receive"
UNACKED: Final = "unacked"
"""Where kombu notes what a worker has taken and not acknowledged: a Redis hash."""
_HIDDEN: Final = "(hidden)"
"""Stands in the message's headers for what somebody wrote: Flower and logs show these."""
_WAITS: Final = {"socket_timeout": 5, "socket_connect_timeout": 3, "socket_keepalive": True}


class Producer:
    """An open connection to the broker."""

    def __init__(self, app: Celery, connection: Any) -> None:  # noqa: ANN401 - kombu has no types
        self._app = app
        self._producer = app.amqp.Producer(connection)

    def send(self, envelope: Mapping[str, object]) -> None:
        """Queue one envelope. Raises `CommandError` when the broker does not take it."""
        try:
            self._app.send_task(
                RECEIVE,
                kwargs={"envelope": envelope},
                queue=INBOUND,
                argsrepr=_HIDDEN,
                kwargsrepr=_HIDDEN,
                producer=self._producer,
                ignore_result=True,
                retry=False,
            )
        except (OperationalError, OSError) as error:
            raise broker_is_away(error) from error


@contextmanager
def producer(broker_url: str) -> Iterator[Producer]:
    """Connect to the broker. Raises `CommandError` when it is away."""
    app = Celery("worker-cli", broker=broker_url, set_as_current=False)
    app.conf.update(task_serializer="json", broker_transport_options=_WAITS)
    with app.connection_for_write() as connection:
        try:
            connection.ensure_connection(max_retries=1)
        except (OperationalError, OSError) as error:
            raise broker_is_away(error) from error
        yield Producer(app, connection)


def broker_is_away(error: Exception) -> CommandError:
    """Say so without the URL, which holds a password."""
    kind = type(error.__cause__ or error).__name__
    return CommandError(f"Redis: {kind}. Is it running, and is BROKER_URL right?")
