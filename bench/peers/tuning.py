"""What each peer's worker process sets before it works, as ours does."""

import os
import sys

CONCURRENCY = int(os.environ.get("CONCURRENCY", "1"))
POOL_SIZE = 10
"""Connections to Postgres, as ours has."""
URL = os.environ.get("TELNYX_BASE_URL", "") + "/ai/openai/responses"
HEADERS = {"Authorization": "Bearer KEY"}
TIMEOUT_S = 75


def body(envelope: dict[str, str]) -> dict[str, str]:
    """Return the body of the POST."""
    return {"model": "bench", "input": envelope["text"]}


def text_of(answer: dict[str, list[dict[str, list[dict[str, str]]]]]) -> str:
    """Return the text of the reply."""
    return answer["output"][0]["content"][0]["text"]


def tune() -> None:
    """Bind a worker process to one core, and let a thread keep the interpreter for longer."""
    if os.environ.get("PIN_TO_CORE"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        sys.setswitchinterval(0.05)
