# mypy: disallow-untyped-calls=False
"""Sends through a broker, confirmed: to Redis in batches of one round trip, else one by one."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

from kombu.connection import Connection
from kombu.exceptions import KombuError
from kombu.messaging import Producer as KombuProducer

from message_worker_client.broker_url import read_broker_url
from message_worker_client.envelope.wire import INBOUND
from message_worker_client.message import Checked, ProducerError, body_of, headers, in_lists

_AMQP: Final = "amqp"


class NotConfirmedError(Exception):
    """The kind of failure, and how many of the messages are confirmed nevertheless."""

    def __init__(self, kind: str, *, confirmed: int = 0, sent: bool = True, stale: bool) -> None:
        super().__init__(kind)
        self.confirmed = confirmed
        self.sent = sent
        """Whether anything may have reached the other side."""
        self.stale = stale
        """Whether the connection had been idle before: a fresh one may do better."""


class BrokerWay:
    """One connection to the broker, opened by the first message and again after a failure.

    `wait_s`: limit of each single wait for the broker; a call that fails has at most four.
    `list_size`: envelopes in one task.
    """

    def __init__(self, url: str, *, wait_s: float, list_size: int = 1) -> None:
        self._url, self._use_ssl, prefix = _address(url)
        self._wait_s = wait_s
        self._list_size = list_size
        self._options = _options(self._url, wait_s) | prefix
        self._connection: Any = None
        self._producer: Any = None
        self._pid = 0

    def publish(self, messages: Sequence[Checked]) -> None:
        """Queue messages in order. Raises `NotConfirmedError`; the connection is closed then."""
        # After a fork the socket is the parent's, who goes on to use it.
        if self._pid != os.getpid():
            self._connection = None
        stale, begun, confirmed = self._connection is not None, False, 0
        try:
            self._connect()
            begun = True
            for confirmed in self._put(messages):  # noqa: B007 - its last value is what counts
                pass
        except self._errors() as error:
            kind = type(error.__cause__ or error).__name__
        else:
            return
        # Not inside the handler: redis-py quotes commands, and so messages, in its errors.
        self.close()
        raise NotConfirmedError(kind, confirmed=confirmed, sent=begun, stale=stale)

    def close(self) -> None:
        """Close the connection without a farewell: the other side may not answer any more."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.connected and connection.transport.driver_type == _AMQP:
            connection.collect()
        else:
            connection.release()

    def _connect(self) -> None:
        if self._connection is not None:
            return
        self._pid = os.getpid()
        self._connection = Connection(
            self._url,
            ssl=self._use_ssl,
            connect_timeout=self._wait_s,
            transport_options=self._options,
        )
        self._connection.ensure_connection(max_retries=0)
        self._producer = KombuProducer(self._connection, auto_declare=False)

    def _put(self, messages: Sequence[Checked]) -> Iterator[int]:
        """Publish; yield the number of confirmed messages whenever it is known."""
        one_by_one = not self._producer.supports_batch_publish
        with self._producer.batch(max_size=len(messages) + 1):
            number = 0
            for several in in_lists(messages, self._list_size):
                fields = headers(several[0].task_id)
                self._producer.publish(
                    body_of(several),
                    exchange="",
                    routing_key=INBOUND,
                    content_type="application/json",
                    content_encoding="utf-8",
                    headers=fields,
                    correlation_id=fields["id"],
                    # Without it RabbitMQ drops a message that has no queue, and confirms that.
                    mandatory=True,
                    confirm_timeout=self._wait_s,
                )
                number += len(several)
                if one_by_one:
                    yield number
        yield len(messages)

    def _errors(self) -> tuple[type[Exception], ...]:
        known = self._connection
        of_driver = (*known.connection_errors, *known.channel_errors) if known is not None else ()
        return (KombuError, OSError, *of_driver)


def _address(url: str) -> tuple[str, dict[str, Any] | bool, dict[str, str]]:
    """Return the URL without options, the options of TLS, and the prefix as kombu's option.

    Raises `ProducerError`.
    """
    if not url.startswith(("redis:", "rediss:", "amqp:", "amqps:")):
        return url, False, {}  # another transport of kombu's
    try:
        address = read_broker_url(url)
    except ValueError as error:
        fault = f"broker_url: {error}"
    else:
        return address.bare, address.use_ssl, {"global_keyprefix": address.prefix}
    raise ProducerError(fault, field="broker_url")


def _options(url: str, wait_s: float) -> dict[str, Any]:
    try:
        driver = Connection(url).transport.driver_type
    except (KeyError, ValueError, ImportError):
        # Raised outside the handler: the error may quote the URL, and with it a password.
        driver = None
    if driver is None:
        raise ProducerError(
            "broker_url: give redis://host:6379/0, rediss://... or amqp://...", field="broker_url"
        )
    if driver == _AMQP:
        return {"confirm_publish": True, "read_timeout": wait_s, "write_timeout": wait_s}
    return {
        "socket_timeout": wait_s,
        "socket_connect_timeout": wait_s,
        "socket_keepalive": True,
        "max_retries": 0,
    }
