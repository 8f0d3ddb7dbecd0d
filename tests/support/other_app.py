"""Another team's Celery application, which knows nothing of ours: `celery -A … worker`."""

import os

from celery import Celery

app = Celery("shop", broker=os.environ["SHOP_BROKER"])


@app.task(name="shop.order")
def order(number: int) -> int:
    return number
