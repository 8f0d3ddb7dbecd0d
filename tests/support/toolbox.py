"""Tool functions for the tests. Each run is a line in the file that the message's metadata name."""

import json
import os
import threading

from worker.tools.context import ToolContext, ToolError

BARRIER = threading.Barrier(2)


def note(name: str, context: ToolContext, **facts: object) -> None:
    path = context.metadata.get("ledger")
    if path is None:
        return
    line = json.dumps({"tool": name, "key": context.idempotency_key, **facts})
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode() + b"\n")
    finally:
        os.close(descriptor)


def order_status(order: int, context: ToolContext) -> dict[str, object]:
    """Say where an order is."""
    note("order_status", context, order=order)
    return {"order": order, "status": "shipped"}


def refund(order: int, context: ToolContext) -> str:
    """Give the money back."""
    note("refund", context, order=order)
    return f"refunded {order}"


def refuse(context: ToolContext) -> str:
    """Never do it."""
    note("refuse", context)
    raise ToolError("not on a Sunday")


def meet(context: ToolContext) -> str:
    """Return when another call is here too."""
    BARRIER.wait(timeout=5)
    note("meet", context)
    return "met"


def explode(word: str, context: ToolContext) -> str:
    """Fail as nobody has foreseen, and quote what was asked."""
    note("explode", context)
    raise RuntimeError(word)
