"""Exports everything held about a channel user: the use case behind `worker export`."""

import json
from collections.abc import Iterator
from itertools import chain

from worker.domain.ids import ChannelUserId
from worker.domain.routing import Routing
from worker.handlers.privacy.ownership import Ownership
from worker.store.privacy.exports import ExportStore
from worker.store.privacy.raw_bytes import TABLES, RawStore


def export_user(
    user_id: ChannelUserId, *, store: ExportStore, raw: RawStore, routing: Routing
) -> Iterator[str]:
    """Return one JSON document in pieces, never whole in memory. Raises `NotFoundError` at once."""
    who, user = store.user(user_id)
    policy = routing.channel(who.channel)
    belongs = Ownership(who=who, policy=policy)
    held = store.parts(user_id, policy.scope, who.address)
    parts = [_listed(name, documents) for name, documents in held]
    parts += [_listed(table, map(_document, raw.scan(table, belongs))) for table in TABLES]
    return chain([f'{{"channel_user": {user}'], *parts, ["}\n"])


def _listed(name: str, documents: Iterator[str]) -> Iterator[str]:
    yield f',\n"{name}": ['
    for number, document in enumerate(documents):
        yield f"{',' if number else ''}\n{document}"
    yield "]"


def _document(entry: tuple[int, bytes]) -> str:
    row_id, raw = entry
    content = raw.decode("utf-8", "backslashreplace")
    return json.dumps({"id": row_id, "content": content}, ensure_ascii=False)
