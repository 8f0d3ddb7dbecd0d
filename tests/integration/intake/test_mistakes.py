"""Mistakes that producers make with Celery: each is found by what its sender knows.

The sender knows the id of the task, or of the message. `worker why` finds with it the message, or
the dead letter with the reason and the field; or `worker doctor`, `stuck` and `status` count it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import pytest
from celery import Celery, signature
from redis import Redis

from tests.support.fleet import Ground, agents_file, fresh_ground
from worker.bootstrap.reports import open_database
from worker.handlers.operators.explain import find, not_accepted
from worker.queue.misplaced import misplaced_entries
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.simulator import SimulatorConfig
from worker.store.reports.message_history import MessageReports

TASK: Final = "messages.receive"
NAIVE: Final = datetime(2026, 11, 30, 7)  # noqa: DTZ001 - the mistake
PAST: Final = "2001-01-01T00:00:00Z"
MISSING: Final = object()


@dataclass(frozen=True, kw_only=True)
class Send:
    """How a producer calls Celery; what is not given is as it should be."""

    expected: str
    """`letter REASON DETAIL...`, `message OUTCOME`, `held` or `elsewhere QUEUE`."""
    fields: Mapping[str, Any] | None = None
    """Put over the envelope's own; `MISSING` takes a field out."""
    task: str = TASK
    queue: str | None = "inbound"
    call: Callable[[dict[str, Any]], tuple[list[Any], dict[str, Any]]] = lambda envelope: (
        [],
        {"envelope": envelope},
    )
    """From the envelope to the arguments of the task."""
    options: Mapping[str, Any] | None = None
    """Of `send_task`."""
    protocol: int = 2


def invalid(field: str, **fields: object) -> Send:
    return Send(expected=f"letter envelope_invalid {field}", fields=fields)


MISTAKES: dict[str, Send] = {
    # The queue.
    "no queue": Send(queue=None, expected="elsewhere celery"),
    "a misspelt queue": Send(queue="inbuond", expected="elsewhere inbuond"),
    "the queue of turns": Send(queue="turns", expected="letter wrong_queue"),
    "the queue of deliveries": Send(queue="deliveries", expected="letter wrong_queue"),
    # The task.
    "a misspelt task": Send(task="messages.recieve", expected="letter unknown_task"),
    "the task of a module": Send(task="worker.tasks.receive", expected="letter unknown_task"),
    "another task of ours": Send(task="channel_users.answer", expected="letter wrong_queue"),
    # The arguments.
    "fields as arguments": Send(call=lambda one: ([], one), expected="letter bad_arguments"),
    "no arguments": Send(call=lambda _: ([], {}), expected="letter bad_arguments"),
    "two arguments": Send(call=lambda one: ([one, 1], {}), expected="letter bad_arguments"),
    "another name": Send(call=lambda one: ([], {"message": one}), expected="letter bad_arguments"),
    "by position": Send(call=lambda one: ([one], {}), expected="message answered"),
    "JSON in JSON": Send(
        call=lambda _: ([], {"envelope": '{"version": 1}'}),
        expected="letter envelope_invalid envelope: give an object",
    ),
    "a list of one": Send(call=lambda one: ([], {"envelope": [one]}), expected="message answered"),
    # Fields.
    "no user": invalid("user: Field required", user=MISSING),
    "no text": invalid("text: Field required", text=MISSING),
    "no channel": invalid("channel: Field required", channel=MISSING),
    "an empty text": invalid("envelope: text may be empty only", text=""),
    "a channel in capitals": invalid("channel: ", channel="SMS"),
    "a number without plus": invalid("user: on a telephone", channel="sms", user="13125550001"),
    "an address without @": invalid("user: on an e-mail", channel="email", user="ann"),
    "a misspelt field": Send(fields={"recipent": "+1312"}, expected="message answered"),
    "an unknown agent": Send(fields={"agent": "nobody"}, expected="letter unknown_agent agent: "),
    "an unknown route": Send(fields={"reply_to": "x"}, expected="letter unknown_route reply_to: "),
    "another version": Send(fields={"version": 2}, expected="letter envelope_version version: "),
    "a version as text": Send(fields={"version": "1"}, expected="letter envelope_version version"),
    # Types.
    "text null": invalid("text: Input should be a valid string", text=None),
    "text as a number": invalid("text: Input should be a valid string", text=7),
    "a number in metadata": invalid("metadata: order: ", metadata={"order": 7}),
    "one attachment, no list": invalid("attachments: ", attachments={"url": "https://a.example"}),
    "an attachment of nothing": invalid(
        "attachments.0: give either url or data", attachments=[{"content_type": "image/png"}]
    ),
    "one signal, no list": invalid("signals: ", signals="opt_out"),
    # Times.
    "a time without a zone": invalid("sent_at: give RFC 3339", sent_at=NAIVE),
    "a time with a zone": Send(fields={"sent_at": datetime.now(UTC)}, expected="message answered"),
    "seconds since 1970": invalid("sent_at: give RFC 3339", sent_at=1_796_000_000),
    "long expired": Send(fields={"expires_at": PAST}, expected="message expired"),
    "expired for Celery": Send(options={"expires": PAST}, expected="message expired"),
    "a countdown": Send(options={"countdown": 3600}, expected="held"),
    # Serializer, compression, protocol.
    "pickle": Send(options={"serializer": "pickle"}, expected="letter content_type"),
    "gzip": Send(options={"compression": "gzip"}, expected="letter compressed"),
    "protocol 1": Send(protocol=1, expected="letter protocol_1"),
    # Canvas.
    "a link": Send(options={"link": signature("shop.note")}, expected="message answered"),
    "a chain": Send(options={"chain": [signature("shop.next")]}, expected="message answered"),
    "a chord": Send(options={"chord": signature("shop.all")}, expected="message answered"),
    # Ids.
    "a task id that is an address": Send(
        options={"task_id": "ann@example.org"}, expected="message answered"
    ),
    "a message id as a number": invalid("message_id: Input should be", message_id=48_151),
    "a message id too long": invalid("message_id: ", message_id="m" * 999),
    # Encodings and sizes.
    "a NUL": Send(fields={"text": "a\0b"}, expected="letter not_storable"),
    "half a surrogate pair": Send(fields={"text": "\ud83d"}, expected="letter not_storable"),
    "a text too long": invalid("text: at most 65536 bytes", text="x" * 65_537),
    "a body too long": Send(fields={"x": "y" * 3_000_000}, expected="letter too_large"),
}


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What was sent, and where to look."""

    ground: Ground
    reports: MessageReports
    task_ids: Mapping[str, str]


@pytest.fixture(scope="module")
def sent(shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis) -> Iterator[Sent]:
    """All of them, sent at once to one worker, and the worker has taken what it takes."""
    with fresh_ground(
        shared_postgres,
        broker_url=shared_redis.url_of(1),
        agents=agents_file(),
        simulated=SimulatorConfig(list_visible_after_s=0),
    ) as ground:
        ground.fleet.start(1)
        ids = {name: send(ground.fleet.broker_url, name, one) for name, one in MISTAKES.items()}
        with Redis.from_url(ground.fleet.broker_url) as redis:
            ours = ("inbound", "turns", "deliveries", "unacked")
            ground.fleet.wait_for(lambda: not redis.exists(*ours))
            with open_database(ground.fleet.database_url) as database:
                yield Sent(ground=ground, reports=MessageReports(database), task_ids=ids)
            redis.delete("celery", "inbuond")


def send(broker_url: str, name: str, one: Send) -> str:
    """Send it as a producer with Celery alone does; return the id that it knows."""
    app = Celery(broker=broker_url)
    app.conf.task_protocol = one.protocol
    envelope: dict[str, Any] = {"version": 1, "channel": "web", "user": f"user of {name}"}
    envelope |= {"message_id": f"m-{name}", "text": "hello", **(one.fields or {})}
    envelope = {key: value for key, value in envelope.items() if value is not MISSING}
    args, kwargs = one.call(envelope)
    options = {"task_id": str(uuid4()), **(one.options or {})}
    where = {} if one.queue is None else {"queue": one.queue}
    app.send_task(one.task, args, kwargs, **where, **options)
    app.close()
    return str(options["task_id"])


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_by_the_id_of_its_task(sent: Sent, name: str) -> None:
    kind, _, more = MISTAKES[name].expected.partition(" ")
    found = find(sent.reports, sent.task_ids[name])
    held, letters = not_accepted(sent.reports, sent.task_ids[name])
    match kind:
        case "message":
            ((one,), outcome) = found, more
            states = sent.ground.database.rows("SELECT outcome FROM messages WHERE id = %s", one.id)
            assert states == [{"outcome": outcome}]
        case "letter":
            (letter,) = letters
            assert f"{letter.reason} {letter.detail}".startswith(more)
        case "held":
            assert len(held) == 1
        case _:
            assert misplaced_entries(sent.ground.fleet.broker_url)[more] == 1
