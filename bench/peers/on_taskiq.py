"""taskiq, tuned: asyncio on uvloop, a stream of Redis with acknowledgements, asyncpg.

python -m taskiq worker bench.peers.on_taskiq:broker    a worker process
python -m bench.peers.on_taskiq                         the producer
"""

import asyncio
import os
import time

import aiohttp
import asyncpg
from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

from bench.orders import Order, envelopes, serve
from bench.peers.tuning import HEADERS, POOL_SIZE, TIMEOUT_S, URL, body, text_of, tune

broker = RedisStreamBroker(os.environ["BROKER_URL"], queue_name="inbound")


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def start(state: TaskiqState) -> None:
    tune()
    timeout, sockets = aiohttp.ClientTimeout(total=TIMEOUT_S), aiohttp.TCPConnector(limit=0)
    state.http = aiohttp.ClientSession(connector=sockets, timeout=timeout)
    state.pool = await asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=POOL_SIZE, max_size=POOL_SIZE
    )


@broker.task(task_name="messages.receive")
async def receive(envelope: dict[str, str]) -> None:
    state, message_id = broker.state, envelope["message_id"]
    await state.pool.execute(
        "INSERT INTO messages (address, id, text) VALUES ($1, $2, $3)",
        envelope["user"],
        message_id,
        envelope["text"],
    )
    async with state.http.post(URL, json=body(envelope), headers=HEADERS) as answer:
        reply = text_of(await answer.json())
    await state.pool.execute(
        "INSERT INTO replies (message_id, text) VALUES ($1, $2)", message_id, reply
    )


async def publish(order: Order) -> list[float]:
    """Queue all; return the wall-clock time of each."""
    published = []
    for envelope in envelopes(order):
        published.append(time.time())
        await receive.kiq(envelope)
    return published


if __name__ == "__main__":
    with asyncio.Runner() as runner:
        runner.run(broker.startup())
        serve(lambda order: runner.run(publish(order)))
