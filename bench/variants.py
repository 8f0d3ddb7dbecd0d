"""The three programs that are compared: their commands and their tables.

FLOOR   bench/floor.py    Celery threads, the shortest code, no guarantees
NAIVE   bench/naive.py    prefork, the OpenAI SDK, the ORM
OURS    worker            the real `celery -A worker worker`, as compose starts it
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from redis import Redis

from worker.queue.broker import QUEUES

RESERVED_THREADS = 16
"""Threads of ours that turns never use: added to the number of answers in flight."""
USERS = 5000
"""Channel users that have a conversation before the measurement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One program under test."""

    name: str
    app: str
    extra_threads: int = 0
    waits: int = 1
    """Connections to Redis on which a process waits for messages."""
    prefork: int | None = None
    """Number of processes; None = threads, as requested."""
    tables: str | None
    """Statements that create its tables; None = this project's migrations."""
    users: str
    """The statement that inserts conversations for `USERS` users."""
    list_size: int = 1
    """Messages in one task."""
    phones: bool = False
    """The users have telephone numbers."""
    env: Mapping[str, str] = field(default_factory=dict)
    """What the image sets for it."""
    finished: str
    """Message ids and times of the replies with an id above a given one."""

    def create_tables(self, url: str) -> None:
        """Fill an empty database, or a copy of the migrated template if `tables` is None."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute((self.tables or "SELECT").encode())

    def command(self, name: str, app: str) -> list[str]:
        """Return what starts a worker process."""
        options = ("-n", name, "--without-gossip", "--without-mingle")
        return [sys.executable, "-m", "celery", "-A", app, "worker", *options]

    def producer(self) -> list[str] | None:
        """Return the program that publishes to it; None = bench/load.py, for all of them."""
        return None

    def is_consuming(self, redis: Redis, database: str, processes: int) -> bool:
        """Return whether each process waits for a queue: they log it only at level INFO."""
        waiting = [
            client
            for client in redis.client_list()
            if client["db"] == database and client["cmd"] in {"brpop", "blmove"}
        ]
        return len(waiting) >= self.waits * processes

    def is_quiet(self, redis: Redis, _: psycopg.Connection[Any]) -> bool:
        """Return whether the queue is empty and everything taken is acknowledged."""
        return not (
            any(redis.llen(name) for name in ("inbound", "turns", "deliveries"))
            or redis.hlen("unacked")
        )


FLOOR = Variant(
    name="floor",
    app="bench.floor",
    tables="""
        CREATE TABLE messages (id text PRIMARY KEY, address text NOT NULL, text text NOT NULL);
        CREATE TABLE replies (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            message_id text NOT NULL, text text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT statement_timestamp())""",
    users="SELECT",
    finished="SELECT message_id, extract(epoch FROM created_at) FROM replies WHERE id > %s",
)
NAIVE = Variant(
    name="naive",
    app="bench.naive",
    prefork=8,
    tables="""
        CREATE TABLE users (id serial PRIMARY KEY, address text UNIQUE NOT NULL,
            conversation_id text NOT NULL);
        CREATE TABLE messages (id serial PRIMARY KEY, message_id text NOT NULL,
            user_id int NOT NULL REFERENCES users, text text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT statement_timestamp());
        CREATE INDEX ON messages (user_id);
        CREATE TABLE replies (id serial PRIMARY KEY, message_id int NOT NULL REFERENCES messages,
            text text NOT NULL, created_at timestamptz NOT NULL DEFAULT statement_timestamp());
        CREATE INDEX ON replies (message_id)""",
    users=f"""
        INSERT INTO users (address, conversation_id)
        SELECT 'u' || n, gen_random_uuid() FROM generate_series(0, {USERS - 1}) n""",
    finished="""
        SELECT m.message_id, extract(epoch FROM r.created_at)
        FROM replies r JOIN messages m ON m.id = r.message_id WHERE r.id > %s""",
)
OURS = Variant(
    name="ours",
    app="worker",
    extra_threads=RESERVED_THREADS,
    waits=len(QUEUES),
    env={"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"},
    tables=None,
    users=f"""
        WITH made AS (
            INSERT INTO channel_users (channel, address, agent)
            SELECT 'web', 'u' || n, 'default' FROM generate_series(0, {USERS - 1}) n RETURNING id)
        INSERT INTO conversations (channel_user_id, agent, telnyx_conversation_id)
        SELECT id, 'default', gen_random_uuid() FROM made""",
    finished="""
        SELECT m.message_id, extract(epoch FROM r.created_at)
        FROM replies r JOIN messages m ON m.turn_id = r.turn_id WHERE r.id > %s""",
)
LISTS = replace(OURS, name="lists", list_size=16)
"""The same, from a producer that sends lists."""
ALL = (FLOOR, NAIVE, OURS)
