# mypy: disallow-untyped-calls=False
"""The four Celery tasks, and the start and stop of the worker process that runs them.

start     first heartbeat, background threads, metrics, traces
SIGHUP    the agents file is read again
SIGTERM   no new claims from now on (`Background` in worker/handlers/background/threads.py);
          Celery waits for running tasks
stop      the pool first, then the background threads, then connections
"""

import faulthandler
import gc
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any

from celery import bootsteps, signals
from celery.worker import state

from message_worker_client.envelope.wire import INBOUND, MAX_LIST, RECEIVE
from worker.domain.errors import RetryableError, SettingsError
from worker.domain.fairness import Share
from worker.domain.ids import ChannelUserId
from worker.domain.messages import Received
from worker.domain.states import NOTHING, WAITING
from worker.observability.logs import configure_logging
from worker.queue.broker import ANSWER, DELIVER, EVENT
from worker.queue.gate.base_task import DeadLetteringTask, OnDefect, sender_of

SWITCH_S = 0.05
"""Longest time that a thread may keep the interpreter while others wait for it.

Each waiting thread wakes up at this interval and asks for the interpreter. At the default of 5 ms,
a thousand of them do little else (bench/README.md). Our threads compute for less than this, and
then release the interpreter by waiting.
"""
_PREFORK = {"prefork", "-Pprefork", "--pool=prefork"}


class RunService(bootsteps.StartStopStep):
    """Starts the service's own threads before Celery needs the broker, and stops them last."""

    # Without it, the place among Celery's steps is that in a set, and differs between processes.
    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **_: Any) -> None:
        super().__init__(worker)
        # Celery takes `-P prefork` for its own default, and puts our pool in its place.
        asked_for_prefork = _PREFORK & set(sys.argv)
        if asked_for_prefork or worker.pool_cls.__module__ != "celery.concurrency.thread":
            raise SystemExit("worker: it runs on threads: leave out -P, or give -P threads")
        if worker.autoscale:
            raise SystemExit(
                "worker: its threads are all there from the start: leave out --autoscale"
            )
        try:
            worker.app.use_threads(worker.concurrency)
            # Here and not in `start`, whose errors Celery logs with a traceback.
            self._service = worker.app.service
        except SettingsError as error:
            raise SystemExit(f"worker: {error}") from None

    def start(self, worker: Any) -> None:
        """Commit the first heartbeat, waiting for Postgres if it is away; start the threads.

        Raises `SystemExit`, with one line, if Postgres refuses it.
        """
        # Celery's handler of this signal prints local variables, which may hold message texts.
        faulthandler.register(signal.SIGUSR1)
        on_sighup(self._service.reload_agents)
        sys.setswitchinterval(SWITCH_S)
        worker.app.threads = worker.pool.executor
        worker.app.pool_threads = worker.pool.limit
        self._service.background.start(before=state.maybe_shutdown)
        slots = self._service.receive.slots
        worker.app.entry_gate.turns = lambda: slots.busy
        self._service.start_telemetry()
        spare_the_collector()

    def stop(self, worker: Any) -> None:
        """Stop the threads once no task runs any more."""
        # Celery stops the pool, too, but only after this step: tasks would still need the service.
        worker.pool.stop()
        self._service.finish_turns()
        self._service.background.stop()
        self._service.close()


def spare_the_collector() -> None:
    """Let the garbage collector pass by what lives as long as the process.

    A collection of all that the imports have made keeps every thread waiting for some 75 ms, once
    in 1,700 messages; of the rest it takes 4 ms.
    """
    gc.collect()
    gc.freeze()


def on_sighup(act: Callable[[], None]) -> None:
    """Call `act` in a thread of its own for each SIGHUP, in place of Celery's restart.

    Not where a terminal controls us: when it is closed, its SIGHUP has to end us.
    """
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY))
    except OSError:
        asked: SimpleQueue[None] = SimpleQueue()

        def forever() -> None:
            while True:
                asked.get()
                act()

        Thread(target=forever, name="sighup", daemon=True).start()
        # Its `put` takes no lock that the interrupted code may hold.
        signal.signal(signal.SIGHUP, lambda *_: asked.put(None))


def connect_signals(app: Any, *, log_level: str) -> None:
    """Make Celery log in JSON, and claim no further work once Celery is asked to stop."""

    def log_in_json(**_: Any) -> None:
        configure_logging(log_level)

    def stop_claiming(**_: Any) -> None:
        app.service.background.stop_claiming()

    signals.setup_logging.connect(log_in_json, weak=False)
    signals.worker_shutting_down.connect(stop_claiming, weak=False)


def register_tasks(app: Any) -> None:
    """Register the tasks with `app`, whose `service` holds the parts of the worker process."""

    @app.task(name=RECEIVE, bind=True, on_defect=OnDefect.DEAD_LETTER)
    def receive(task: DeadLetteringTask, envelope: Any) -> str:
        """Accept an envelope, or each of a list; on the fast path, answer their turns as well."""
        take = partial(
            app.service.receive,
            queue=INBOUND,
            not_before=_time(task.request.get("not_before")),
            expires_at=_time(task.request.get("expires_at")),
            sender=sender_of(task.request),
        )
        if isinstance(envelope, list) and 0 < len(envelope) <= MAX_LIST:
            result = receive_each(task, envelope, partial(take, answers=False))
        else:
            result = take(envelope, raw=lambda: task.request.raw_body).result
        ignored = task.request.get("ignored")
        return f"{result} ignored={ignored}" if ignored else result

    @app.task(name=EVENT, on_defect=OnDefect.DEAD_LETTER)
    def take_event(event: Any, key: Any = None) -> str:
        """Take an event of Telnyx that the gateway could not store."""
        taken: str = app.service.take_event(event, key if isinstance(key, str) else None)
        return taken

    @app.task(name=ANSWER, on_defect=OnDefect.DROP)
    def answer(user_id: int, agent: str = "") -> str:
        """Answer one channel user's due messages."""
        worked = app.service.answer(ChannelUserId(user_id), Share(agent))
        # A turn of several steps counts by its last one.
        turns = {one.turn: one.result or WAITING for one in worked}
        return ", ".join(f"{result} turn={turn}" for turn, result in turns.items()) or NOTHING

    @app.task(name=DELIVER, on_defect=OnDefect.DROP)
    def deliver(user_id: int) -> str:
        """Deliver one channel user's due replies."""
        return ", ".join(app.service.deliver(ChannelUserId(user_id))) or NOTHING


def receive_each(
    task: DeadLetteringTask, envelopes: Sequence[Any], receive: Callable[..., Received]
) -> str:
    """Accept the envelopes in their order, and return how many had which result.

    Each may become a dead letter of its own. Raises `RetryableError`: those before are accepted,
    and change nothing when the list comes again.
    """
    counts: Counter[str] = Counter()
    for envelope in envelopes:
        raw = json.dumps([[], {"envelope": envelope}, {}]).encode()
        try:
            result = receive(envelope, raw=lambda raw=raw: raw).result
        except RetryableError:
            raise
        except Exception as error:  # noqa: BLE001 - one envelope, not the list
            task.keep_part(error, raw)
            result = "failed"
        counts[result.partition(" ")[0]] += 1
    return ", ".join(f"{word} {number}" for word, number in counts.items())


def _time(header: str | None) -> datetime | None:
    return None if header is None else datetime.fromisoformat(header)
