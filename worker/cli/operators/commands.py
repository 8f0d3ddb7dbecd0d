# ruff: noqa: PLC0415 - heavy imports wait until the command runs, so that --help is quick
"""`worker pause`, `resume`, `erase`, `export`, `retention`: people take over; personal data."""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from worker.cli.console import print_line, progress_bar
from worker.cli.errors import CommandError, MisuseError
from worker.cli.operators.context import an_operator, one_user, until_free
from worker.cli.options import DryRun, Json, User
from worker.cli.text import counts_as_text, print_json, visible_json, warn
from worker.domain.errors import BrokerAwayError, DatabaseAwayError, RetryableError

if TYPE_CHECKING:
    from worker.domain.ids import ChannelUserId
    from worker.queue.entries import QueueEntries

Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="A new file, instead of stdout.")
]
_PATIENCE_S = 15.0
"""For one answer of Redis, which may have a page of large entries to send."""


def pause(who: User, *, as_json: Json = False) -> None:
    """Let a person take over: nothing is answered, and a reply on its way is withheld.

    Messages that arrive meanwhile are added to Telnyx's thread and end as `human`.
    """
    _set_paused(who, paused=True, as_json=as_json)


def resume(who: User, *, as_json: Json = False) -> None:
    """Let the model answer new messages again; the backlog is not answered."""
    _set_paused(who, paused=False, as_json=as_json)


def _set_paused(who: str, *, paused: bool, as_json: bool) -> None:
    state = "paused" if paused else "answered again"
    with an_operator() as operator:
        user_id = one_user(operator, who)
        mirrored = operator.set_paused(user_id, paused=paused)
    if as_json:
        print_json({"user": user_id, "state": state, "telnyx_told": mirrored})
        return
    print_line(f"channel user {user_id} is {state}")
    if not mirrored:
        print_line("Telnyx could not be told (ai_disabled); that changes nothing here")


def erase(
    who: User,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: DryRun = False,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait for running work.")
    ] = 30.0,
    as_json: Json = False,
) -> None:
    """Remove everything about one channel user: Postgres, queues, dead letters, Telnyx.

    Cannot be undone. Safe to repeat. If it exits with 1, run it again; the message says what is
    left.
    """
    from worker.config.settings import load_settings

    with an_operator() as operator, queue_entries(load_settings().broker_url) as queues:
        user_id = one_user(operator, who)
        found = operator.erase.count(user_id, queues)
        if dry_run:
            _report(user_id, "would_be_removed", found, as_json=as_json)
            return
        if not yes:
            # Without a terminal the end of stdin must not count as an answer.
            if not sys.stdin.isatty():
                raise MisuseError("this cannot be undone: give --yes")
            question = f"Erase channel user {user_id} for good ({counts_as_text(found)})?"
            if not typer.confirm(question, err=True):
                raise CommandError("nothing was removed")
        try:
            removed = until_free(lambda: operator.erase(user_id, queues), wait_s=wait_s)
        except DatabaseAwayError:
            raise
        # The user is busy, or Telnyx failed; the text names the fix.
        except RetryableError as error:
            raise CommandError(f"{error}. Until then none of their messages is answered") from None
    _report(user_id, "removed", removed, as_json=as_json)


@contextmanager
def queue_entries(broker_url: str) -> "Iterator[QueueEntries | None]":
    """Connect to the broker; None = a RabbitMQ, whose queues are empty. Raises `CommandError`."""
    from redis import RedisError

    from message_worker_client.broker_url import read_broker_url
    from message_worker_client.redis_client import redis_client
    from worker.cli.send.producer import broker_is_away
    from worker.queue.broker import QUEUES, is_amqp
    from worker.queue.entries import QueueEntries
    from worker.queue.misplaced import misplaced_entries
    from worker.queue.waiting import waiting_entries

    if is_amqp(broker_url):
        try:
            waiting = sum(waiting_entries(broker_url, QUEUES).values())
        except BrokerAwayError as error:
            raise broker_is_away(error, broker_url) from error
        if waiting:
            raise CommandError(
                f"{waiting} entries wait in RabbitMQ, and some may belong to this channel user:"
                " let the workers take them, then run it again"
            )
        yield None
        return
    try:
        with redis_client(broker_url, timeout_s=_PATIENCE_S, connect_timeout_s=3) as redis:
            yield QueueEntries(
                redis,
                prefix=read_broker_url(broker_url).prefix,
                misplaced=lambda: misplaced_entries(broker_url),
            )
    except RedisError as error:  # not OSError: that may be the caller's, whose stdout is closed
        raise broker_is_away(error, broker_url) from error


def _report(
    user_id: "ChannelUserId", verb: str, counts: Mapping[str, int], *, as_json: bool
) -> None:
    if as_json:
        print_json({"user": user_id, verb: counts})
        return
    state = "is erased; removed" if verb == "removed" else "has"
    print_line(f"channel user {user_id} {state}: {counts_as_text(counts)}")


def export(who: User, *, out: Out = None) -> None:
    """Write everything held about one channel user, as JSON. It includes their messages."""
    with an_operator() as operator:
        user_id = one_user(operator, who)
        pieces = operator.export(user_id)
        if out is None:
            sys.stdout.writelines(map(visible_json, pieces))
            return
        with new_file(out) as file:
            file.writelines(pieces)
    warn(f"channel user {user_id} is in {out}: it holds the texts of their messages")


@contextmanager
def new_file(out: Path) -> Iterator[TextIO]:
    """Open a file of --out; in the end the complete document is there, or no file."""
    try:
        # O_EXCL follows no link that somebody has put there; 0600, for it holds personal data.
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - of a descriptor
                yield file
        except BaseException:
            with suppress(OSError):
                out.unlink()
            raise
    except FileExistsError:
        raise MisuseError(f"--out: {out} is there already") from None
    except OSError as error:
        raise MisuseError(f"--out: {error.strerror}") from None


def retention(*, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Remove texts older than RETENTION_DAYS. Workers do it each hour.

    The rows stay. It may be interrupted at any time; the next run continues.
    """
    from worker.bootstrap.reports import reading
    from worker.store.privacy.retention import RetentionStore

    with reading("database_url") as (settings, database):
        days = settings.retention_days
        if days is None:
            raise MisuseError("RETENTION_DAYS is not set: everything is kept for ever")
        store = RetentionStore(database, keep_days=days)
        counts = sum(map(Counter, store.run(dry_run=True)), Counter[str]())
        if not dry_run:
            with progress_bar("retention", counts.total()) as advance:
                counts.clear()
                for batch in store.run():
                    counts.update(batch)
                    advance(sum(batch.values()))
    verb = "would_be_removed" if dry_run else "removed"
    if as_json:
        print_json({"older_than_days": days, verb: counts})
        return
    said = verb.replace("_", " ")
    print_line(f"older than {days} days, {said}: {counts_as_text(counts) or 'nothing'}")
