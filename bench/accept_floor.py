"""The floor of accepting: one Celery hop and one single-row commit, without any guarantee.

FIXED, like floor.py: its first half, without the POST and the reply.
"""

import os
import queue

import psycopg
from celery import Celery

THREADS = int(os.environ["CONCURRENCY"])
app = Celery("accept_floor", broker=os.environ["BROKER_URL"])
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
connections: queue.LifoQueue[psycopg.Connection] = queue.LifoQueue()
for _ in range(10):
    connections.put(psycopg.connect(os.environ["DATABASE_URL"], autocommit=True))


@app.task(name="messages.receive")  # type: ignore[untyped-decorator]
def receive(envelope: dict[str, str]) -> None:
    connection = connections.get()
    try:
        connection.execute(
            "INSERT INTO messages (address, id, text) VALUES (%s, %s, %s)",
            (envelope["user"], envelope["message_id"], envelope["text"]),
        )
    finally:
        connections.put(connection)
