"""`Producer`: checks messages, sends them, and reports what is confirmed."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NotRequired, Required, Self, TypedDict

from message_worker_client.broker import BrokerWay, NotConfirmedError
from message_worker_client.database import DatabaseWay
from message_worker_client.envelope.wire import MAX_LIST
from message_worker_client.message import Checked, ProducerError, checked

_BATCH: Final = 500
_BATCH_CHARACTERS: Final = 1024 * 1024
"""With at most one envelope more, which bounds what `send_many` holds."""
_SECOND_ATTEMPT: Final = 0.6
"""The part of `timeout_s` that must be left for one."""
_WAITS: Final = 4
"""Waits for the broker within `timeout_s`."""


class AttachmentFields(TypedDict, total=False):
    """Something sent along: exactly one of `url` and `data`."""

    content_type: Required[str]
    url: str
    data: str
    """base64"""
    name: str


class MessageFields(TypedDict, total=False):
    """One message for `Producer.send_many`; a whole envelope is one too.

    docs/reference/envelope.md describes the fields.
    """

    channel: Required[str]
    user: Required[str]
    message_id: Required[str]
    text: Required[str]
    version: NotRequired[int]
    recipient: str
    thread: str
    agent: str | None
    sent_at: datetime | str | None
    """Aware, or RFC 3339 with an offset."""
    expires_at: datetime | str | None
    not_before: datetime | str | None
    signals: Sequence[str]
    attachments: Sequence[AttachmentFields]
    reply_to: str | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A message that is certainly queued: the names that find its answer."""

    channel: str
    user: str
    message_id: str
    inbox_id: int | None
    """The row in the inbox; None = it went through the broker."""
    task_id: str | None
    """The Celery task, for Flower, logs and `worker why`; None = it went through Postgres."""


class Producer:
    """Sends messages to the service through its broker, or through its database.

    Any thread may call; calls take turns on the one connection. It opens with the first message,
    and anew in a forked child. `timeout_s`: of one batch; a call raises when it has waited that
    long for its turn, or for the other side. `list_size`: how many messages `send_many` puts into
    one Celery task; with 16, workers and Redis have half the work, and Flower one row for all.
    """

    def __init__(
        self,
        *,
        broker_url: str | None = None,
        database_url: str | None = None,
        timeout_s: float = 10.0,
        list_size: int = 1,
    ) -> None:
        if not 1 <= list_size <= MAX_LIST:
            raise ProducerError(f"list_size: give 1 to {MAX_LIST}", field="list_size")
        if timeout_s <= 0:
            raise ProducerError("timeout_s: give seconds above zero", field="timeout_s")
        self._way: BrokerWay | DatabaseWay
        if broker_url and not database_url:
            self._way = BrokerWay(broker_url, wait_s=timeout_s / _WAITS, list_size=list_size)
        elif database_url and not broker_url:
            self._way = DatabaseWay(database_url, timeout_s=timeout_s)
        else:
            raise ProducerError("give either broker_url or database_url", field="broker_url")
        self._timeout_s = timeout_s
        self._turn = threading.Lock()

    def send(
        self,
        *,
        channel: str,
        user: str,
        message_id: str,
        text: str,
        recipient: str | None = None,
        thread: str | None = None,
        agent: str | None = None,
        sent_at: datetime | str | None = None,
        expires_at: datetime | str | None = None,
        not_before: datetime | str | None = None,
        signals: Sequence[str] | None = None,
        attachments: Sequence[AttachmentFields] | None = None,
        reply_to: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Queued:
        """Queue one message. Raises `ProducerError`; sending it again then is safe.

        `message_id`: the channel's own id of the message, the key against duplicates. Only fields
        that are given become part of the envelope.
        """
        # The parameters are the fields of an envelope, by name.
        named = {name: value for name, value in locals().items() if name != "self"}
        given = {name: value for name, value in named.items() if value is not None}
        message = checked(given)
        ids = self._publish([message])
        return Queued(
            channel=channel,
            user=user,
            message_id=message_id,
            inbox_id=ids[0] if ids else None,
            task_id=None if ids else message.task_id,
        )

    def send_many(self, messages: Iterable[MessageFields | Mapping[str, object]]) -> int:
        """Queue messages in order, a batch a round trip; return their number, all confirmed.

        Takes from the iterable as it goes. At the first fault it raises `ProducerError`, whose
        `confirmed` is the number of messages from the start that are queued: go on from there.
        """
        confirmed = 0
        for batch, fault in _batches(messages):
            try:
                self._publish(batch)
            except ProducerError as error:
                error.confirmed += confirmed
                raise
            confirmed += len(batch)
            if fault is not None:
                place = f"message {confirmed + 1}: {fault}"
                raise ProducerError(place, field=fault.field, confirmed=confirmed)
        return confirmed

    def close(self) -> None:
        """Close the connection; the next message opens another."""
        with self._turn:
            self._way.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _publish(self, batch: Sequence[Checked]) -> list[int] | None:
        if not batch:
            return None
        deadline = time.monotonic() + self._timeout_s
        if not self._turn.acquire(timeout=self._timeout_s):
            raise ProducerError("not sent: other threads hold the connection; send it again")
        try:
            return self._confirmed(batch, deadline)
        finally:
            self._turn.release()

    def _confirmed(self, batch: Sequence[Checked], deadline: float) -> list[int] | None:
        failures: list[NotConfirmedError] = []
        while True:
            try:
                return self._way.publish(batch)
            except NotConfirmedError as error:
                failures.append(error)
            # That Postgres was restarted shows only when the old connection is used.
            in_time = time.monotonic() < deadline - _SECOND_ATTEMPT * self._timeout_s
            if not (failures[-1].stale and in_time):
                break
        confirmed = max(failure.confirmed for failure in failures)
        may_be_there = any(failure.sent for failure in failures)
        certain = "it may be queued or not" if may_be_there else "it is not queued"
        raise ProducerError(
            f"not confirmed ({failures[-1]}): {certain}; send it again, that is safe",
            confirmed=confirmed,
            uncertain=len(batch) - confirmed if may_be_there else 0,
        )


def _batches(
    messages: Iterable[Mapping[str, object]],
) -> Iterator[tuple[list[Checked], ProducerError | None]]:
    """Cut into batches, lazily; the last one may come with the fault of the message after it."""
    batch: list[Checked] = []
    characters = 0
    for message in messages:
        try:
            one = checked(message)
        except ProducerError as fault:
            yield batch, fault
            return
        batch.append(one)
        characters += len(one.text)
        if len(batch) == _BATCH or characters >= _BATCH_CHARACTERS:
            yield batch, None
            batch, characters = [], 0
    yield batch, None
