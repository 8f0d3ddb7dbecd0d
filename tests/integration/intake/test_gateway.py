"""The gateway's endpoints, on real Postgres and Redis: what is answered, and what is stored."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest
from nacl.signing import SigningKey
from redis import Redis

from tests.support.asgi import Answer, Asgi, Call
from tests.support.telnyx_events import PERSON, PUBLIC_KEY, event, inbound, received, signed
from tests.support.world import HandDrivenWorker, World
from worker.bootstrap.gateway import build_gateway
from worker.domain.errors import SettingsError
from worker.net.signing import Signer
from worker.queue.gate.entry import Entry
from worker.telnyx.client import TelnyxClient

TELNYX = "/telnyx/messaging"
TOKEN = {"authorization": "Bearer token-1"}
OTHER_KEY = SigningKey(b"1" * 32)
SECRET = b"s" * 24
NOWHERE = "postgresql://127.0.0.1:1/none"


@dataclass
class Gateway:
    """A gateway that is called without a server, and a worker that takes up what it stores."""

    post: Asgi
    world: World
    worker: HandDrivenWorker

    def telnyx(self, body: bytes, path: str = TELNYX, **headers: str) -> Answer:
        return self.post(path, body, headers=signed(body) | headers)

    def messages(self, document: object, **more: Any) -> Answer:  # noqa: ANN401
        return self.post("/messages", json.dumps(document).encode(), **{"headers": TOKEN, **more})

    def show(self, path: str, headers: dict[str, str] = TOKEN) -> Answer:
        return self.post(path, method="GET", headers=headers)

    def stored(self) -> list[str]:
        rows = self.world.database.rows("SELECT envelope->>'text' AS text FROM inbox ORDER BY id")
        return [row["text"] for row in rows]

    def drain(self) -> None:
        while self.worker.service.background.drain_inbox():
            pass


@contextmanager
def running(world: World, **changed: object) -> Iterator[Gateway]:
    keys = f"{base64.b64encode(OTHER_KEY.verify_key.encode()).decode()} {PUBLIC_KEY}"
    given: dict[str, Any] = {
        "telnyx_public_key": keys,
        "gateway_token": "token-0 token-1",
        "gateway_secret": "whsec_" + base64.b64encode(SECRET).decode(),
        "public_url": "https://sms.example.com",
        **changed,
    }
    settings = replace(world.settings(), **given)
    built = build_gateway(settings)
    try:
        with Asgi(built.app) as post:
            yield Gateway(post=post, world=world, worker=world.worker())
    finally:
        built.close()


@pytest.fixture
def gateway(world: World) -> Iterator[Gateway]:
    with running(world) as one:
        yield one


def queued(broker_url: str) -> list[Entry]:
    with Redis.from_url(broker_url) as redis:
        raw = redis.lrange("inbound", 0, -1)
    return [Entry.parse(one, max_body_bytes=1024 * 1024) for one in raw]  # type: ignore[union-attr]


# --- Telnyx's webhooks ---------------------------------------------------------------------------


def test_a_webhook_is_answered_with_exactly_200_once_it_is_stored(gateway: Gateway) -> None:
    for key in (SigningKey(bytes(32)), OTHER_KEY):
        body = received()
        answer = gateway.post(f"{TELNYX}/{uuid4()}", body, headers=signed(body, key=key))
        assert (answer.status, answer.body) == (200, b"")
    assert gateway.stored() == ["Are you open on Sunday?"] * 2


def test_a_key_that_was_fetched_follows_telnyx(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [base64.b64encode(OTHER_KEY.verify_key.encode()).decode()]
    monkeypatch.setattr(TelnyxClient, "public_key", lambda _: told[-1])
    with running(world, telnyx_public_key=None) as gateway:
        told.append(PUBLIC_KEY)
        assert gateway.telnyx(received()).status == 200
        assert len(gateway.stored()) == 1


def test_many_webhooks_at_once_are_all_stored(gateway: Gateway) -> None:
    bodies = [received(text=str(number)) for number in range(150)]
    answers = gateway.post.at_once(
        [Call(path=TELNYX, body=body, headers=signed(body)) for body in bodies]
    )
    assert {answer.status for answer in answers} == {200}
    assert gateway.stored() == [str(number) for number in range(150)]


def test_nothing_is_stored_of_what_telnyx_did_not_sign(gateway: Gateway) -> None:
    body = received()
    now = int(signed(body)["telnyx-timestamp"])
    headers = signed(body)
    forged = signed(body, key=SigningKey(b"2" * 32))
    reserialised = json.dumps(json.loads(body), indent=1).encode()
    for raw, given in (
        (body, forged),
        (body, signed(body, at=now - 310)),
        (body, signed(body, at=now + 310)),
        (body, headers | {"telnyx-timestamp": str(now - 1)}),
        (body, headers | {"telnyx-timestamp": "now"}),
        (body, headers | {"telnyx-timestamp": "9" * 300}),
        (body, headers | {"telnyx-signature-ed25519": ""}),
        (body, headers | {"telnyx-signature-ed25519": "%%%"}),
        (body, headers | {"telnyx-signature-ed25519": base64.b64encode(b"x").decode()}),
        (body, {}),
        (body[:-1], headers),
        (body + b" ", headers),
        (reserialised, headers),
        (b"", headers),
    ):
        answer = gateway.post(TELNYX, raw, headers=given)
        assert answer.status == 401, given
        assert answer.json["error"]["field"] == "telnyx-signature-ed25519"
    assert gateway.stored() == []


def test_a_signature_is_good_for_five_minutes_both_ways(gateway: Gateway) -> None:
    body = received()
    now = int(signed(body)["telnyx-timestamp"])
    for at in (now - 290, now + 290):
        assert gateway.post(TELNYX, body, headers=signed(body, at=at)).status == 200


def test_a_replayed_webhook_is_no_second_message(gateway: Gateway) -> None:
    body = received()
    headers = signed(body)
    assert [gateway.post(TELNYX, body, headers=headers).status for _ in range(3)] == [200] * 3
    gateway.drain()
    assert gateway.world.database.value("SELECT count(*) FROM messages") == 1


def test_a_large_or_compressed_body_is_refused_before_it_is_read(gateway: Gateway) -> None:
    large = b" " * (1024 * 1024 + 1)
    assert gateway.telnyx(large).status == 413
    pieces = [large[:700_000], large[:700_000]]
    assert gateway.post(TELNYX, pieces, headers=signed(large)).status == 413
    assert gateway.telnyx(b"{}", **{"content-encoding": "gzip"}).status == 415
    assert gateway.telnyx(received(), **{"content-encoding": "identity"}).status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100, b'{"a": NaN}'])
def test_a_signed_body_that_is_no_json_is_refused(gateway: Gateway, body: bytes) -> None:
    answer = gateway.telnyx(body)
    assert (answer.status, answer.json["error"]["field"]) == (400, "body")


def test_what_postgres_cannot_store_is_replaced_and_the_message_kept(gateway: Gateway) -> None:
    body = json.dumps(event("message.received", inbound(text="a\ud83d b\x00"))).encode()
    assert gateway.telnyx(body).status == 200
    assert gateway.stored() == ["a\ufffd b\ufffd"]


def test_an_event_of_an_unknown_type_is_answered_and_not_stored(gateway: Gateway) -> None:
    for kind in ("message.invented", "messaging-profile.spend-limit-reached"):
        assert gateway.telnyx(json.dumps(event(kind, {})).encode()).status == 200
    assert gateway.stored() == []


def test_while_postgres_is_away_events_wait_in_the_broker(world: World, broker_url: str) -> None:
    body = received()
    with running(world, database_url=NOWHERE, broker_url=broker_url) as gateway:
        assert gateway.telnyx(body, path=f"{TELNYX}/key-1").status == 200
        (entry,) = queued(broker_url)
        assert (entry.task, entry.kwargs["key"]) == ("channels.event", "key-1")
        result = gateway.worker.service.take_event(entry.kwargs["event"], "key-1")
        assert result == f"queued task={entry.task_id}"
        assert gateway.stored() == ["Are you open on Sunday?"]
        # Both away.
        with Redis.from_url(broker_url) as redis:
            redis.flushall()
    with running(world, database_url=NOWHERE) as gateway:
        answer = gateway.telnyx(body)
        assert (answer.status, answer.json["error"]["field"]) == (503, "service")


# --- messages of producers -----------------------------------------------------------------------


def test_a_message_is_taken_and_its_link_shows_what_became_of_it(gateway: Gateway) -> None:
    envelope = gateway.world.envelope("Hello")
    answer = gateway.messages(envelope)
    assert answer.status == 202
    given = answer.json["id"]
    assert answer.json == {"id": given, "link": f"https://sms.example.com/messages/{given}"}
    assert gateway.messages(envelope).json == answer.json
    assert gateway.show(f"/messages/{given}").json["state"] == "queued"
    gateway.drain()
    gateway.worker.answer()
    shown = gateway.show(f"/messages/{given}").json
    assert (shown["id"], shown["state"], shown["outcome"]) == (given, "answered", "answered")
    assert shown["reply"] == gateway.world.replies()[0]["text"]
    assert gateway.messages(envelope).json == answer.json


def test_a_list_has_a_status_for_each_of_its_elements(gateway: Gateway) -> None:
    good = gateway.world.envelope("Hello")
    documents = [good, {**good, "user": 7}, {**good, "agent": "nobody"}, "x"]
    answer = gateway.messages(documents)
    assert answer.status == 207
    assert [one["status"] for one in answer.json] == [202, 422, 422, 422]
    assert [one["error"]["field"] for one in answer.json[1:]] == ["user", "agent", "envelope"]
    assert gateway.stored() == ["Hello"]
    assert gateway.messages([good]).status == 202
    assert gateway.messages(documents[1:]).status == 422


@pytest.mark.parametrize("document", [[], [{}] * 101, 7, None, {}])
def test_what_is_no_message_is_refused_with_the_field(gateway: Gateway, document: object) -> None:
    answer = gateway.messages(document)
    assert answer.status == 422
    assert answer.json["error"]["fix"]


def test_bodies_beyond_the_limits_are_refused(gateway: Gateway) -> None:
    for raw, status in ((b" " * (2 * 1024 * 1024 + 1), 413), (b"\xff", 422), (b"[" * 70, 422)):
        assert gateway.post("/messages", raw, headers=TOKEN).status == status
    data = {"content_type": "image/png", "data": "A" * 1024 * 1024}
    answer = gateway.messages(gateway.world.envelope("", attachments=[data]))
    assert (answer.status, answer.json["error"]["field"]) == (422, "envelope")
    assert gateway.stored() == []


def test_nobody_sends_or_reads_without_token_or_signature(gateway: Gateway) -> None:
    given = gateway.messages(gateway.world.envelope("Hello")).json["id"]
    for headers in (
        {},
        {"authorization": "Bearer token-2"},
        {"authorization": "Bearer"},
        {"authorization": "Basic token-1"},
        {"authorization": "Bearer é"},
        Signer([b"t" * 24]).headers("1", "{}"),
    ):
        assert gateway.messages({}, headers=headers).status == 401
        assert gateway.show(f"/messages/{given}", headers=headers).status == 401
    assert len(gateway.stored()) == 1


def test_a_producer_may_sign_instead(gateway: Gateway) -> None:
    body = json.dumps(gateway.world.envelope("Hello"))
    signer = Signer([SECRET])
    answer = gateway.post("/messages", body.encode(), headers=signer.headers("1", body))
    assert answer.status == 202
    changed = gateway.post("/messages", body.encode() + b" ", headers=signer.headers("1", body))
    assert changed.status == 401
    given = answer.json["id"]
    assert gateway.show(f"/messages/{given}", headers=signer.headers(given, "")).status == 200
    # Signed for another message.
    assert gateway.show(f"/messages/{given}", headers=signer.headers("1", "")).status == 401


def test_an_unknown_id_is_not_found(gateway: Gateway) -> None:
    for given in (str(uuid4()), "x", PERSON):
        assert gateway.show(f"/messages/{given}").status == 404


def test_an_envelope_that_a_worker_refuses_is_shown_with_its_reason(gateway: Gateway) -> None:
    given = gateway.messages(gateway.world.envelope("Hello")).json["id"]
    # The worker has another agents file.
    gateway.world.database.run('UPDATE inbox SET envelope = envelope || \'{"agent": "x"}\'')
    gateway.drain()
    shown = gateway.show(f"/messages/{given}").json
    assert (shown["state"], shown["outcome"]) == ("refused", "unknown_agent")


def test_one_source_is_limited_and_another_is_not(world: World) -> None:
    with running(world, gateway_messages_per_second=1) as gateway:
        documents = [world.envelope(str(number)) for number in range(12)]
        assert gateway.messages(documents).status == 202
        answer = gateway.messages(documents[0])
        assert (answer.status, answer.json["error"]["field"]) == (429, "rate")
        assert gateway.messages(documents[0], client="192.0.2.2").status == 202


def test_while_postgres_is_away_messages_wait_in_the_broker(world: World, broker_url: str) -> None:
    with running(world, database_url=NOWHERE, broker_url=broker_url) as gateway:
        envelope = world.envelope("Hello")
        answer = gateway.messages(envelope)
        assert answer.status == 202
        (entry,) = queued(broker_url)
        assert (entry.task, entry.task_id) == ("messages.receive", answer.json["id"])
        assert entry.kwargs == {"envelope": envelope}
        assert gateway.show(f"/messages/{answer.json['id']}").status == 503


def test_without_a_token_the_way_in_for_producers_does_not_exist(world: World) -> None:
    with running(world, gateway_token=None, gateway_secret=None) as gateway:
        assert gateway.messages(world.envelope("Hello")).status == 404
        assert gateway.telnyx(received()).status == 200


# --- health, and the start -----------------------------------------------------------------------


def test_it_is_ready_while_postgres_or_the_broker_answers(world: World, broker_url: str) -> None:
    for changed, status, away in (
        ({}, 200, []),
        ({"database_url": NOWHERE, "broker_url": broker_url}, 200, ["postgres"]),
        ({"database_url": NOWHERE}, 503, ["postgres", "broker"]),
    ):
        with running(world, **changed) as gateway:
            assert gateway.show("/health/live").status == 200
            answer = gateway.show("/health/ready")
            assert (answer.status, answer.json["away"]) == (status, away)


def test_telnyxs_key_is_fetched_if_no_setting_has_it(world: World) -> None:
    built = build_gateway(replace(world.settings(), telnyx_public_key=None))
    built.close()
    with pytest.raises(SettingsError, match="TELNYX_PUBLIC_KEY: it is not set, and Telnyx"):
        build_gateway(replace(world.settings(), telnyx_base_url="http://127.0.0.1:1/v2"))


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"telnyx_public_key": "x"}, "TELNYX_PUBLIC_KEY: give base64 of 32 bytes"),
        ({"gateway_secret": "x"}, "GATEWAY_SECRET: the key"),
    ],
)
def test_a_key_that_is_none_is_named(world: World, changed: dict[str, str], fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        build_gateway(replace(world.settings(), **{"telnyx_public_key": PUBLIC_KEY, **changed}))
