"""procrastinate, tuned: asyncio, a pool, jobs queued in batches, a lock for each user.

python -m bench.peers.on_procrastinate work    a worker process
python -m bench.peers.on_procrastinate         the producer
"""

import asyncio
import logging
import os
import sys
import time

import aiohttp
import procrastinate
from procrastinate.jobs import Job
from psycopg_pool import AsyncConnectionPool

from bench.orders import Order, envelopes, serve
from bench.peers.tuning import CONCURRENCY, HEADERS, POOL_SIZE, TIMEOUT_S, URL, body, text_of, tune

# It warns that this module is the main one, where its tasks would have other names than elsewhere.
logging.getLogger("procrastinate").setLevel(logging.ERROR)
DATABASE_URL = os.environ["DATABASE_URL"]
BATCH = 100
app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=DATABASE_URL, min_size=POOL_SIZE, max_size=POOL_SIZE
    )
)
opened: dict[str, aiohttp.ClientSession | AsyncConnectionPool] = {}


@app.task(name="messages.receive", queue="inbound")
async def receive(envelope: dict[str, str]) -> None:
    message_id = envelope["message_id"]
    await commit(
        "INSERT INTO messages (address, id, text) VALUES (%s, %s, %s)",
        envelope["user"],
        message_id,
        envelope["text"],
    )
    async with opened["http"].post(URL, json=body(envelope), headers=HEADERS) as answer:
        reply = text_of(await answer.json())
    await commit("INSERT INTO replies (message_id, text) VALUES (%s, %s)", message_id, reply)


async def commit(statement: str, *values: str) -> None:
    async with opened["pool"].connection() as connection:
        await connection.execute(statement, values)


async def work() -> None:
    timeout, sockets = aiohttp.ClientTimeout(total=TIMEOUT_S), aiohttp.TCPConnector(limit=0)
    sizes = {"min_size": POOL_SIZE, "max_size": POOL_SIZE, "kwargs": {"autocommit": True}}
    async with (
        aiohttp.ClientSession(connector=sockets, timeout=timeout) as opened["http"],
        AsyncConnectionPool(DATABASE_URL, open=False, **sizes) as opened["pool"],
        app.open_async(),
    ):
        await app.run_worker_async(queues=["inbound"], concurrency=CONCURRENCY)


def produce() -> None:
    connector = procrastinate.SyncPsycopgConnector(conninfo=DATABASE_URL, min_size=1, max_size=1)
    with app.replace_connector(connector), app.open():
        serve(publish)


def publish(order: Order) -> list[float]:
    """Queue all; return the wall-clock time of each."""
    jobs, published = [job(envelope) for envelope in envelopes(order)], list[float]()
    for first in range(0, len(jobs), BATCH):
        several = jobs[first : first + BATCH]
        published += [time.time()] * len(several)
        app.job_manager.batch_defer_jobs(several)
    return published


def job(envelope: dict[str, object]) -> Job:
    return receive.configure(lock=str(envelope["user"])).make_new_job(envelope=envelope)


if __name__ == "__main__":
    if sys.argv[1:] == ["work"]:
        tune()
        asyncio.run(work())
    else:
        produce()
