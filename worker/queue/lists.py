"""Receives a list of envelopes, which came in one task."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from worker.domain.errors import RetryableError
from worker.domain.messages import Received
from worker.queue.gate.base_task import DeadLetteringTask


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
