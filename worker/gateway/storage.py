"""Stores what came in: in Postgres, in groups; on the broker's queue while Postgres is away.

    request ─┐             ┌─ one statement, one commit ─▶ 200
    request ─┼─ a group ───┤
    request ─┘             └─ away, or not in time ─▶ the broker ─▶ 200
                                                          └─ away ─▶ 503

What comes while a group is written is the next group. A work may be stored in both places: taking
it twice changes nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from message_worker_client.envelope.wire import INBOUND
from worker.domain.errors import BrokerAwayError, RetryableError, named
from worker.gateway.endpoint import RefusedError
from worker.handlers.intake.take_event import Work
from worker.observability import metrics
from worker.observability.logs import log

_GROUP: Final = 100
COMMIT_S: Final = 1.0
"""The longest wait for a commit: Telnyx waits 2 s for the answer."""
_PUBLISHERS: Final = 8


@dataclass(frozen=True, slots=True)
class Task:
    """The Celery task that does the same work later."""

    name: str
    id: str
    kwargs: dict[str, Any]


class Storage:
    """Used on the event loop alone; it writes on threads of its own."""

    def __init__(
        self,
        commit: Callable[[Sequence[Work]], None],
        publish: Callable[[str, str, str, dict[str, Any]], None],
    ) -> None:
        """`publish`: see `BrokerClient`."""
        self._commit, self._publish = commit, publish
        self._waiting: list[tuple[Work, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        # One: a group grows while the one before it is written.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._publishers = ThreadPoolExecutor(_PUBLISHERS, thread_name_prefix="publisher")
        self._is_away = False

    async def store(self, work: Work, task: Task) -> None:
        """Return once it is certainly stored. Raises `RefusedError`: it may be sent again."""
        loop = asyncio.get_running_loop()
        committed = self._committed(work)
        patience = loop.call_later(COMMIT_S, _give_up, committed)
        try:
            await committed
        except Exception as error:  # noqa: BLE001 - whatever it is, the message must not get lost
            if not self._is_away:
                log.warning("gateway.commit_failed", error=named(error))
            self._is_away = True
        else:
            self._is_away = False
            return
        finally:
            patience.cancel()
        arguments = (task.name, INBOUND, task.id, task.kwargs)
        try:
            await loop.run_in_executor(self._publishers, self._publish, *arguments)
        except BrokerAwayError as error:
            log.error("gateway.queue_failed", error=str(error))
            raise RefusedError(503, "service", "neither Postgres nor the broker answers") from None
        metrics.QUEUED.labels(task.name).inc()

    def close(self) -> None:
        """Let the threads end."""
        self._writer.shutdown(wait=False)
        self._publishers.shutdown(wait=False)

    def _committed(self, work: Work) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return future

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            # Who waited for too long has gone to the broker.
            group = [one for one in self._waiting[:_GROUP] if not one[1].done()]
            del self._waiting[:_GROUP]
            works = [work for work, _ in group]
            errors = await loop.run_in_executor(self._writer, self._errors_of, works)
            for (_, future), error in zip(group, errors, strict=True):
                if future.done():
                    continue
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

    def _errors_of(self, works: Sequence[Work]) -> Sequence[Exception | None]:
        """Commit a group; return the error of each work."""
        try:
            if works:
                self._commit(works)
        except RetryableError as error:
            return [error] * len(works)
        except Exception as error:  # noqa: BLE001 - one of them is the cause
            if len(works) == 1:
                return [error]
            return [self._errors_of([work])[0] for work in works]
        return [None] * len(works)


def _give_up(committed: asyncio.Future[None]) -> None:
    if not committed.done():
        committed.set_exception(TimeoutError())
