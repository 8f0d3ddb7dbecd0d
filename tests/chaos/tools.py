"""The tool that a campaign's agents have: it notes what it was given, each run a line."""

import os
import time

LEDGER = "CHAOS_LEDGER"
"""The environment variable with the path of the notes."""
_WORK_S = 0.05


def note(text: str) -> str:
    """Write a text down."""
    descriptor = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, text.encode() + b"\n")
    finally:
        os.close(descriptor)
    time.sleep(_WORK_S)  # a worker may die here: noted, and nobody knows
    return f"noted {text}"
