"""The kind of input that Telnyx's messaging webhooks are, signed as Telnyx would."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

from tests.fuzz.harness import Kind
from tests.fuzz.mutate import damaged, json_damaged
from tests.support.asgi import Asgi
from tests.support.telnyx_events import (
    OURS,
    PERSON,
    PUBLIC_KEY,
    event,
    inbound,
    outbound,
    signed,
    whatsapp,
)
from tests.support.world import World
from worker.gateway.app import build_app
from worker.gateway.signature import TelnyxKeys
from worker.gateway.storage import Storage
from worker.gateway.webhooks import TelnyxWebhooks
from worker.handlers.intake.take_event import InboxEntry, Work

TEXTS = ("STOP", "Hello", "", None, "\ud83d", "a\x00b", "\u202e", "7" * 2000)
MEDIA = ([], None, [{"url": "https://m.example/1", "content_type": "image/png"}], [{}], ["x"])
BODIES: tuple[Any, ...] = (
    {"type": "text", "text": {"body": "Hola"}, "from": PERSON},
    {"type": "edit", "edit": {"original_message_id": "o", "message": {"type": "text"}}},
    {"type": "revoke", "revoke": {"original_message_id": "o"}},
    {"text": "Ciao", "user_file": {"payload": {"file_uri": "https://x.example/1"}}},
)
KINDS: tuple[Callable[[Random], tuple[str, Any]], ...] = (
    lambda r: ("message.received", inbound(text=r.choice(TEXTS), media=r.choice(MEDIA))),
    lambda r: ("message.received", whatsapp(r.choice(BODIES))),
    lambda r: ("message.finalized", outbound(r.choice(("delivered", "sent", "", "x")))),
    lambda _: ("message.echo", {"from": {"phone_number": OURS}, "to": PERSON}),
    lambda _: ("messaging-profile.spend-limit-reached", {}),
)


class WebhookKind:
    """Posts each to the gateway, and at the end puts all of it through the inbox."""

    share = 0.1
    batch = 100

    def __init__(self, world: World) -> None:
        self._worker = world.worker()
        self._world = world
        self._works: list[Work] = []
        take = self._worker.service.take_event
        storage = Storage(self._works.extend, self._never)
        webhooks = TelnyxWebhooks(keys=TelnyxKeys([PUBLIC_KEY]), take=take, storage=storage)
        self.post = Asgi(build_app(webhooks, None, {}))

    def _never(self, *_: object) -> None:
        raise AssertionError("Postgres is here")

    def one(self, random: Random) -> bytes:
        """Make a webhook's body, sound or not."""
        kind, payload = random.choice(KINDS)(random)
        document = event(kind, payload)
        if random.random() < 0.7:
            document = json_damaged(document, random)
        raw = json.dumps(document).encode()
        return damaged(raw, random, [raw, b"[]"]) if random.random() < 0.3 else raw

    def feed(self, inputs: Sequence[bytes]) -> Iterable[str]:
        """Post them."""
        return map(self._posted, inputs)

    def _posted(self, raw: bytes) -> str:
        before = len(self._works)
        answer = self.post("/telnyx/messaging", raw, headers=signed(raw))
        assert answer.status in {200, 400, 413}, answer
        stored = self._works[before:]
        assert not stored or answer.status == 200
        return type(stored[0]).__name__ if stored else str(answer.status)

    def audit(self, outcomes: Counter[str]) -> None:
        """Check that whatever somebody wrote is a message or a dead letter."""
        assert {"InboxEntry", "Receipt", "ChannelAddress", "200", "400"} <= outcomes.keys()
        entries = [one for one in self._works if isinstance(one, InboxEntry)]
        take, drain = self._worker.service.take_event, self._worker.service.background.drain_inbox
        for first in range(0, len(entries), 500):
            take.commit(entries[first : first + 500])
        while drain():
            pass
        kept = self._world.database.rows("""
            SELECT task_id FROM messages UNION SELECT task_id FROM dead_letters""")
        assert {row["task_id"] for row in kept} == {one.id for one in entries}


@contextmanager
def telnyx_webhooks(world: World) -> Iterator[Kind]:
    """Open the kind."""
    kind = WebhookKind(world)
    with kind.post:
        yield kind
