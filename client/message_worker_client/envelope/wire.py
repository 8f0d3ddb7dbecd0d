"""How an envelope travels: names and limits that producers and workers have to agree on."""

import re
from typing import Final

INBOUND: Final = "inbound"
"""The queue that producers send to."""
RECEIVE: Final = "messages.receive"
"""The task that producers send."""
MAX_TEXT_BYTES: Final = 65_536
"""Of one message, in UTF-8; operators' own messages have the same limit."""
MAX_BODY_BYTES: Final = 1024 * 1024
"""Of the body around an envelope."""
MAX_DEPTH: Final = 64
"""Lists and objects inside each other in a body. Python's own limit depends on the caller."""
DEPTH_AROUND: Final = 2
"""How many of those are around the envelope: `[args, {"envelope": ...}, embed]`."""
_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


def is_deeper(text: str, limit: int) -> bool:
    """Return whether JSON has more than `limit` lists and objects inside each other."""
    # Counting costs nothing, walking does: only a text with many brackets is walked.
    return text.count("[") + text.count("{") > limit and _depth(text) > limit


def _depth(text: str) -> int:
    deepest = depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        first = token[0][0]
        if first in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in "]}":
            depth -= 1
    return deepest
