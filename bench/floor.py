"""The floor: the smallest Celery program that does the job, without any guarantee.

FIXED. Every bar of the table is a multiple of it, so it is never made slower, and never changed to
meet a bar: one hop, threads pool, task events, late acks, one POST, two single-row commits.
"""

import os
import queue
import threading

import httpx
import psycopg
from celery import Celery

THREADS = int(os.environ["CONCURRENCY"])
app = Celery("floor", broker=os.environ["BROKER_URL"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_default_queue="inbound",
    worker_pool="threads",
    worker_concurrency=THREADS,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    broker_transport_options={"max_connections": THREADS + 32},
)
URL = os.environ["TELNYX_BASE_URL"] + "/ai/openai/responses"
TLS = httpx.create_ssl_context()
local = threading.local()
connections: queue.LifoQueue[psycopg.Connection] = queue.LifoQueue()
for _ in range(10):
    connections.put(psycopg.connect(os.environ["DATABASE_URL"], autocommit=True))


def commit(statement: str, *values: object) -> None:
    connection = connections.get()
    try:
        connection.execute(statement, values)
    finally:
        connections.put(connection)


@app.task(name="messages.receive")  # type: ignore[untyped-decorator]
def receive(envelope: dict[str, str]) -> None:
    if not hasattr(local, "client"):
        local.client = httpx.Client(verify=TLS, timeout=75)
    user, message_id, text = envelope["user"], envelope["message_id"], envelope["text"]
    commit("INSERT INTO messages (address, id, text) VALUES (%s, %s, %s)", user, message_id, text)
    answer = local.client.post(
        URL, json={"model": "bench", "input": text}, headers={"Authorization": "Bearer KEY"}
    )
    reply = answer.json()["output"][0]["content"][0]["text"]
    commit("INSERT INTO replies (message_id, text) VALUES (%s, %s)", message_id, reply)
