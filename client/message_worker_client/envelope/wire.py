"""How an envelope travels: names and limits that producers and workers have to agree on."""

from typing import Final

INBOUND: Final = "inbound"
"""The queue that producers send to."""
RECEIVE: Final = "messages.receive"
"""The task that producers send."""
MAX_TEXT_BYTES: Final = 65_536
"""Of one message, in UTF-8; operators' own messages have the same limit."""
MAX_BODY_BYTES: Final = 1024 * 1024
"""Of the body around an envelope."""
MAX_LIST: Final = 100
"""Envelopes in one task."""
MAX_ATTACHMENTS: Final = 16
"""Of one message."""
MAX_DEPTH: Final = 64
"""Lists and objects inside each other in a body."""
MAX_VALUES: Final = 65_536
"""Of a body: lists, objects and what they hold."""
DEPTH_AROUND: Final = 2
"""How many of those are around the envelope: `[args, {"envelope": ...}, embed]`."""
MAX_ENTRY_BYTES: Final = 2 * 1024 * 1024
"""Of anything that becomes a dead letter as a whole; of what is larger, the first bytes do."""
HEAD_BYTES: Final = 64 * 1024
"""How many bytes those are."""


def cut_to_head(size: int, sha256: str) -> str:
    """Describe what was larger than `MAX_ENTRY_BYTES`, beside the first bytes of it."""
    return f"{size} bytes, sha256 {sha256}; the first {HEAD_BYTES} are kept"
