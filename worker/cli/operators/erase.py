"""`worker erase`: removes everything about one channel user, here and at Telnyx."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import typer
from redis import Redis, RedisError

from worker.cli.console import print_json, print_line
from worker.cli.errors import MISUSED, CommandError
from worker.cli.operators.context import an_operator, one_user, until_free
from worker.cli.send.producer import broker_is_away
from worker.cli.settings import all_settings
from worker.domain.errors import DatabaseAwayError, RetryableError
from worker.domain.ids import ChannelUserId
from worker.queue.broker import ERRORS, QUEUES, is_amqp, waiting_entries
from worker.queue.entries import QueueEntries


def run(who: str, *, yes: bool, dry_run: bool, wait_s: float, as_json: bool) -> None:
    """Erase; exit code 0 = nothing about the user is left here or at Telnyx."""
    with an_operator() as operator, queue_entries(all_settings().broker_url) as queues:
        user_id = one_user(operator, who)
        found = operator.erase.count(user_id, queues)
        if dry_run:
            _report(user_id, "would_be_removed", found, as_json=as_json)
            return
        if not yes:
            _ask(user_id, found)
        try:
            removed = until_free(lambda: operator.erase(user_id, queues), wait_s=wait_s)
        except DatabaseAwayError:
            raise
        except (
            RetryableError
        ) as error:  # the user is busy, or Telnyx failed; the text says what to do
            raise CommandError(f"{error}. Until then none of their messages is answered") from None
    _report(user_id, "removed", removed, as_json=as_json)


@contextmanager
def queue_entries(broker_url: str) -> Iterator[QueueEntries | None]:
    """Connect to the broker; None = a RabbitMQ, whose queues are empty. Raises `CommandError`."""
    if is_amqp(broker_url):
        _refuse_waiting(broker_url)
        yield None
        return
    try:
        with Redis.from_url(broker_url, socket_timeout=15, socket_connect_timeout=3) as redis:
            yield QueueEntries(redis)
    except RedisError as error:  # not OSError: that may be the caller's, whose stdout is closed
        raise broker_is_away(error, broker_url) from error


def _refuse_waiting(broker_url: str) -> None:
    try:
        waiting = sum(waiting_entries(broker_url, QUEUES).values())
    except ERRORS as error:
        raise broker_is_away(error, broker_url) from error
    if waiting:
        raise CommandError(
            f"{waiting} entries wait in RabbitMQ, and some may belong to this channel user:"
            " let the workers take them, then run it again"
        )


def _ask(user_id: ChannelUserId, found: Mapping[str, int]) -> None:
    # Without a terminal the end of stdin must not count as an answer.
    if not sys.stdin.isatty():
        raise CommandError("this cannot be undone: give --yes", exit_code=MISUSED)
    question = f"Erase channel user {user_id} for good ({_listed(found)})?"
    if not typer.confirm(question, err=True):
        raise CommandError("nothing was removed")


def _report(user_id: ChannelUserId, verb: str, counts: Mapping[str, int], *, as_json: bool) -> None:
    if as_json:
        print_json({"user": user_id, verb: counts})
        return
    state = "is erased; removed" if verb == "removed" else "has"
    print_line(f"channel user {user_id} {state}: {_listed(counts)}")


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in counts.items())
