"""Threads as a mail program shows them: RFC 5256 REFERENCES, after jwz.org/doc/threading.html.

By References alone: mails are not put together because their subjects are alike, or by In-Reply-To.
"""

from collections.abc import Iterable
from email import message_from_bytes
from itertools import pairwise


def threads(mails: Iterable[bytes]) -> list[set[str]]:
    """Return the Message-IDs of each thread, in the order of the first mail of each."""
    parents: dict[str, str | None] = {}

    def ancestors(one: str) -> Iterable[str]:
        above: str | None = one
        while above is not None:
            yield above
            above = parents.get(above)

    ids = []
    for mail in map(message_from_bytes, mails):
        own, chain = mail["Message-ID"].strip(), (mail["References"] or "").split()
        ids.append(own)
        for parent, child in pairwise(chain):
            # A link that is known stays, and none closes a circle.
            if parents.get(child) is None and child not in ancestors(parent):
                parents[child] = parent
        parents[own] = None
        if chain and own not in ancestors(chain[-1]):
            parents[own] = chain[-1]
    grouped: dict[str, set[str]] = {}
    for one in ids:
        *_, root = ancestors(one)
        grouped.setdefault(root, set()).add(one)
    return list(grouped.values())
