"""Exports everything held about a channel user: the use case behind `worker export`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from worker.domain.ids import ChannelUserId
from worker.domain.routing import Routing
from worker.handlers.privacy.ownership import Ownership
from worker.store.privacy.exports import ExportStore
from worker.store.privacy.raw_bytes import TABLES, RawStore


@dataclass(frozen=True, kw_only=True)
class ExportUser:
    """Yields one JSON document in pieces: it is never in memory as a whole."""

    store: ExportStore
    raw: RawStore
    routing: Routing

    def __call__(self, user_id: ChannelUserId) -> Iterator[str]:
        """Return the pieces. Raises `NotFoundError`, before the first one."""
        who, user = self.store.user(user_id)
        belongs = Ownership(who=who, kind=self.routing.channel(who.channel).kind)
        return self._pieces(user_id, user, belongs)

    def _pieces(self, user_id: ChannelUserId, user: str, belongs: Ownership) -> Iterator[str]:
        yield f'{{"channel_user": {user}'
        for name, documents in self.store.parts(user_id):
            yield from _listed(name, documents)
        for table in TABLES:
            yield from _listed(table, map(_document, self.raw.scan(table, belongs)))
        yield "}\n"


def _listed(name: str, documents: Iterator[str]) -> Iterator[str]:
    yield f',\n"{name}": ['
    for number, document in enumerate(documents):
        yield f"{',' if number else ''}\n{document}"
    yield "]"


def _document(entry: tuple[int, bytes]) -> str:
    row_id, raw = entry
    content = raw.decode("utf-8", "backslashreplace")
    return json.dumps({"id": row_id, "content": content}, ensure_ascii=False)
