"""Starts everything a run needs: Postgres and Redis (real, durable), upstream, producer."""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from redis import Redis

from bench.children import ROOT, Producer, UpstreamProcess
from bench.orders import Order
from bench.variants import Variant
from tests.support.databases import make_template
from tests.support.processes import eventually, open_folder
from worker.net.child_process import ChildProcess
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis

NAMESPACE = "11111111-2222-4333-8444-555555555555"
AGENTS = """
[agents.default]
fallback_text = "Sorry, not now."
[channels.web]
reorder_s = 0
debounce_s = 0
"""
_START_S = 60.0


@dataclass(kw_only=True)
class Subject:
    """One variant with its own database and queue, and its processes."""

    variant: Variant
    label: str
    """Its name within the run."""
    broker_url: str
    database_url: str
    answers: int
    """Limit of messages in flight, in each process."""
    connection: psycopg.Connection[tuple[Any, ...]]
    redis: Redis
    processes: list[ChildProcess] = field(default_factory=list)
    producer: Producer | None = None
    """Its own; None = the one of the stage."""
    published: int = 0
    """Messages so far; the next one's number."""

    def kill(self) -> None:
        """Kill its processes, with what they forked; none of their state is needed any more."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()

    def last_reply(self) -> int:
        """Return the highest id of a reply."""
        row = self.connection.execute("SELECT coalesce(max(id), 0) FROM replies").fetchone()
        return int(row[0]) if row else 0

    def finished(self, after: int) -> dict[str, float]:
        """Return the time of each answer by message id, for replies above an id."""
        rows = self.connection.execute(self.variant.finished.encode(), [after])
        return {str(message_id): float(at) for message_id, at in rows}

    def count_after(self, after: int) -> int:
        """Count the replies above an id."""
        row = self.connection.execute("SELECT count(*) FROM replies WHERE id > %s", [after])
        return int((row.fetchone() or (0,))[0])

    def knows_all(self) -> bool:
        """Return whether the upstream was asked for conversations that are unknown here."""
        row = self.connection.execute("SELECT complete_at IS NOT NULL FROM cluster").fetchone()
        return bool(row and row[0])

    def wal_bytes(self) -> int:
        """Return how much Postgres has ever written to its log."""
        row = self.connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
        return int(row[0]) if row else 0

    def standing(self) -> str:
        """Describe the progress of a round that does not end."""
        queues = {name: self.redis.llen(name) for name in ("inbound", "turns", "deliveries")}
        return (
            f"{self.label}: {self.published} published, {self.count_after(0)} replies,"
            f" queued {queues}, unacknowledged {self.redis.hlen('unacked')}"
        )

    def is_consuming(self) -> bool:
        """Return whether each process waits for messages."""
        running = sum(process.is_running for process in self.processes)
        return self.variant.is_consuming(self.redis, self.broker_url.rpartition("/")[2], running)

    def is_quiet(self) -> bool:
        """Return whether the queue is empty and everything taken is acknowledged."""
        return self.variant.is_quiet(self.redis, self.connection)


@dataclass(kw_only=True)
class Stage:
    """The parts."""

    folder: Path
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    upstream: UpstreamProcess
    producer: Producer
    seed: int = 1
    numbers: Iterator[int] = field(default_factory=count)

    def calm_down(self) -> None:
        """Answer everything that is held, and drop an unfinished order, after a part that broke."""
        self.upstream.control(latency_s=0.0, hold=False, fail_share=0.0)
        self.producer.stop()
        self.producer = Producer()

    @contextmanager
    def subject(
        self,
        variant: Variant,
        *,
        answers: int,
        label: str | None = None,
        processes: int = 1,
        env: Mapping[str, str] | None = None,
        app: str | None = None,
    ) -> Iterator[Subject]:
        """Start a variant with a new database; both are removed on exit."""
        number = next(self.numbers)
        name = f"bench_{variant.name}_{number}"
        with ExitStack() as stack:
            url = self._database(variant, name)
            stack.callback(self._run, f"DROP DATABASE {name} WITH (FORCE)")
            connection = psycopg.connect(url, autocommit=True)
            stack.callback(connection.close)
            broker_url = self.redis.url_of(number % 16)
            redis = stack.enter_context(Redis.from_url(broker_url))
            redis.flushdb()
            subject = Subject(
                variant=variant,
                label=label or variant.name,
                broker_url=broker_url,
                database_url=url,
                answers=variant.prefork or answers,
                connection=connection,
                redis=redis,
            )
            if command := variant.producer():
                subject.producer = Producer(command, env=self._settings(subject))
                stack.callback(subject.producer.stop)
            stack.callback(subject.kill)
            for _ in range(processes):
                self.start_process(subject, env=env or {}, app=app)
            yield subject

    def _database(self, variant: Variant, name: str) -> str:
        template = " TEMPLATE migrated_template" if variant.tables is None else ""
        self._run(f"CREATE DATABASE {name}{template}")
        url = self.postgres.url_of(name)
        variant.create_tables(url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(variant.users.encode())
            connection.execute("VACUUM ANALYZE")
        return url

    def start_process(
        self,
        subject: Subject,
        *,
        env: Mapping[str, str],
        app: str | None = None,
        wait: bool = True,
    ) -> ChildProcess:
        """Start one more worker process of a subject, and wait until it consumes."""
        variant, number = subject.variant, next(self.numbers)
        log, name = self.folder / f"{variant.name}-{number}.log", f"{variant.name}-{number}@bench"
        agents = self.folder / "agents.toml"
        agents.write_text(AGENTS)
        process = ChildProcess(
            variant.command(name, app or variant.app),
            log=log,
            env={
                **self._settings(subject),
                "DATABASE_PREPARE": "true",
                "PIN_TO_CORE": "true",
                "TELNYX_BASE_URL": f"http://127.0.0.1:{self.upstream.port}/v2",
                "TELNYX_API_KEY": "KEY",
                "NAMESPACE": NAMESPACE,
                "AGENTS_FILE": str(agents),
                "CONCURRENCY": str(subject.answers + variant.extra_threads),
                "SANDBOX_DIR": str(self.folder / "none"),
                **variant.env,
                **env,
            },
        )
        subject.processes.append(process)
        if wait and not process.wait_until(subject.is_consuming, _START_S):
            raise RuntimeError(f"{name} did not start:\n{log.read_text()[-3000:]}")
        return process

    def _settings(self, subject: Subject) -> dict[str, str]:
        """Return the environment of each process of a subject."""
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "BROKER_URL": subject.broker_url,
            "DATABASE_URL": subject.database_url,
        }

    def order(self, subject: Subject, *, messages: int, rate: float | None, users: int) -> Order:
        """Return the next order for a subject."""
        first, subject.published = subject.published, subject.published + messages
        return Order(
            broker_url=subject.broker_url,
            first=first,
            count=messages,
            users=users,
            rate=rate,
            seed=self.seed + first,
            list_size=subject.variant.list_size,
            phones=subject.variant.phones,
        )

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            connection.execute(statement.encode())


def wait_until_quiet(subject: Subject) -> None:
    """Wait for the last acknowledgement."""
    if not eventually(subject.is_quiet, timeout_s=30):
        raise RuntimeError(f"{subject.label}: entries stay unacknowledged")


@contextmanager
def running_stage(*, seed: int = 1) -> Iterator[Stage]:
    """Start all parts; no process is left running in any case."""
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        postgres = stack.enter_context(EmbeddedPostgres(folder / "postgres"))
        make_template(postgres)
        redis = stack.enter_context(EmbeddedRedis(folder / "redis"))
        upstream = UpstreamProcess(folder)
        stack.callback(upstream.stop)
        stage = Stage(
            folder=folder,
            postgres=postgres,
            redis=redis,
            upstream=upstream,
            producer=Producer(),
            seed=seed,
        )
        stack.callback(lambda: stage.producer.stop())  # noqa: PLW0108 - whichever it is by then
        yield stage
