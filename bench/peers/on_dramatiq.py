"""dramatiq, tuned: one process with threads, one HTTP client each, a pool for Postgres.

python -m dramatiq bench.peers.on_dramatiq    a worker process
python -m bench.peers.on_dramatiq             the producer
"""

import os
import queue
import threading
import time

import dramatiq
import httpx
import psycopg
from dramatiq.brokers.redis import RedisBroker

from bench.orders import Order, envelopes, serve
from bench.peers.tuning import HEADERS, POOL_SIZE, TIMEOUT_S, URL, body, text_of, tune

tune()
dramatiq.set_broker(RedisBroker(url=os.environ["BROKER_URL"]))
TLS = httpx.create_ssl_context()
local = threading.local()
connections: queue.LifoQueue[psycopg.Connection | None] = queue.LifoQueue()
for _ in range(POOL_SIZE):
    connections.put(None)


@dramatiq.actor(actor_name="messages.receive", queue_name="inbound", max_retries=0)
def receive(envelope: dict[str, str]) -> None:
    if not hasattr(local, "client"):
        local.client = httpx.Client(verify=TLS, timeout=TIMEOUT_S)
    message_id = envelope["message_id"]
    commit(
        "INSERT INTO messages (address, id, text) VALUES (%s, %s, %s)",
        envelope["user"],
        message_id,
        envelope["text"],
    )
    answer = local.client.post(URL, json=body(envelope), headers=HEADERS)
    reply = text_of(answer.json())
    commit("INSERT INTO replies (message_id, text) VALUES (%s, %s)", message_id, reply)


def commit(statement: str, *values: str) -> None:
    connection = connections.get()
    try:
        # The process that dramatiq forks from must have none open.
        connection = connection or psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
        connection.execute(statement, values)
    finally:
        connections.put(connection)


def publish(order: Order) -> list[float]:
    """Queue all; return the wall-clock time of each."""
    published = []
    for envelope in envelopes(order):
        published.append(time.time())
        receive.send(envelope)
    return published


if __name__ == "__main__":
    serve(publish)
