"""The producer, in its own process: publishes orders with Celery, see bench/orders.py."""

import time
from functools import partial

from celery import Celery

from bench.orders import Order, arrivals, envelopes, serve


def publish(order: Order, apps: dict[str, Celery]) -> list[float]:
    """Publish all; return the wall-clock time of each."""
    if order.broker_url not in apps:
        apps[order.broker_url] = Celery(broker=order.broker_url, set_as_current=False)
    app = apps[order.broker_url]
    messages, times, published = envelopes(order), [*arrivals(order)], list[float]()
    with app.producer_pool.acquire(block=True) as producer:
        start = time.monotonic()
        for first in range(0, len(messages), order.list_size):
            several = messages[first : first + order.list_size]
            if (wait_s := start + times[first + len(several) - 1] - time.monotonic()) > 0:
                time.sleep(wait_s)
            published += [time.time()] * len(several)
            app.send_task(
                "messages.receive",
                kwargs={"envelope": several if order.list_size > 1 else several[0]},
                queue="inbound",
                producer=producer,
            )
    return published


if __name__ == "__main__":
    serve(partial(publish, apps={}))
