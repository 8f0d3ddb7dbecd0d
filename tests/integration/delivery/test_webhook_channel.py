"""A reply as a webhook: signed, once per webhook-id, in time, to no stranger."""

import base64
import socket
import ssl
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.bad_servers import trickle_body, trickle_head
from tests.support.raw_server import RawServer, Serve, answers, http, raw_server
from tests.support.webhook_inbox import DEADLINE_S, SECRET, SLACK_S, channel_at, parts_of
from worker.channels.public_addresses import is_public
from worker.domain.deliveries import (
    DeliveryOutcome,
    NotDelivered,
    Rejected,
    Sent,
    Unclear,
)
from worker.net.answer import Answer, IncompleteAnswerError
from worker.net.post_once import Endpoint
from worker.net.window import CallWindow
from worker.testing.channel_cases import reply_of

OLD = "whsec_" + base64.b64encode(b"o" * 32).decode()
STRANGE = "whsec_" + base64.b64encode(b"x" * 32).decode()


def outcome_of(serve: Serve, **changes: Any) -> tuple[DeliveryOutcome, RawServer]:  # noqa: ANN401 any option
    with raw_server(serve) as server:
        outcome = channel_at(server.url, **changes).deliver(reply_of("Yes."))
    return outcome, server


# --- what is sent ------------------------------------------------------------------------------


def test_the_request_carries_the_reply_and_its_signature_verifies() -> None:
    reply = reply_of("Grüße 😀")
    with raw_server(answers(http())) as server:
        assert channel_at(server.url).deliver(reply) == Sent()

    (raw,) = server.requests
    assert raw.startswith(b"POST /v2 HTTP/1.1\r\n")
    headers, body = parts_of(raw)
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == str(reply.idempotency_key)
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    assert Webhook(SECRET).verify(body, headers) == {
        "version": 1,
        "idempotency_key": str(reply.idempotency_key),
        "channel": "cases",
        "recipient": "shop",
        "user": "user-1",
        "thread": "",
        "text": "Grüße 😀",
        "message_ids": list(reply.message_ids),
        "metadata": {"ticket": "4711"},
    }
    for secret, signed in ((STRANGE, body), (SECRET, body + b" ")):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(signed, headers)


def test_while_a_key_is_rotated_both_verify() -> None:
    with raw_server(answers(http())) as server:
        channel_at(server.url, SECRET, OLD).deliver(reply_of("Yes."))
    headers, body = parts_of(server.requests[0])
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OLD):
        assert Webhook(secret).verify(body, headers)["text"] == "Yes."
    with pytest.raises(WebhookVerificationError):
        Webhook(STRANGE).verify(body, headers)


# --- what an answer comes to -------------------------------------------------------------------


def half_a_head(conn: socket.socket, server: RawServer) -> None:
    server.read_request(conn)
    conn.sendall(b"HTTP/1.1 20")


@pytest.mark.parametrize(
    ("serve", "outcome"),
    [
        (answers(http(b"ok")), Sent()),
        (answers(http(status=299)), Sent()),
        (answers(b"HTTP/1.1 204 No Content\r\n\r\n"), Sent()),
        (answers(b"HTTP/1.1 103 Hints\r\n\r\n" + http()), Sent()),
        (answers(http(status=410)), Rejected(reason="status 410")),
        (answers(http(status=400)), NotDelivered(reason="status 400")),
        (answers(http(status=404)), NotDelivered(reason="status 404")),
        (answers(http(status=308)), NotDelivered(reason="status 308")),
        (answers(http(status=303)), Unclear(reason="status 303")),
        (answers(http(status=500)), Unclear(reason="status 500")),
        (answers(http(status=429)), NotDelivered(reason="status 429", throttled=True)),
        (answers(http(status=502)), Unclear(reason="status 502", throttled=True)),
        (answers(http(status=504)), Unclear(reason="status 504", throttled=True)),
        (answers(b"SSH-2.0-SECRET\r\n\r\n"), Unclear(reason="not HTTP")),
        (half_a_head, Unclear(reason="ended early")),
    ],
)
def test_the_status_is_the_answer(serve: Serve, outcome: DeliveryOutcome) -> None:
    assert outcome_of(serve)[0] == outcome


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused(status: int) -> None:
    with raw_server(answers(http())) as other:
        moved = answers(http(status=status, headers={"Location": other.url}))
        outcome, server = outcome_of(moved)
    assert not isinstance(outcome, Sent | Rejected)
    assert (server.connections, other.connections) == (1, 0)


@pytest.mark.parametrize(
    ("header", "low_s", "high_s"),
    [
        ("90", 90.0, 90.0),
        ("9999999", 3600.0, 3600.0),
        ("a date", 500.0, 600.0),
    ],
)
def test_a_pause_that_is_asked_for_is_kept_up_to_an_hour(
    header: str, low_s: float, high_s: float
) -> None:
    if header == "a date":
        header = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    outcome, _ = outcome_of(answers(http(status=503, headers={"Retry-After": header})))
    assert isinstance(outcome, Unclear)
    assert outcome.retry_after_s is not None
    assert low_s <= outcome.retry_after_s <= high_s


@pytest.mark.parametrize("header", ["soon", "-1", "", "²", "0", "Mon, 99 Xyz 2026 00:00:00 GMT"])
def test_a_pause_that_says_nothing_is_passed_over(header: str) -> None:
    outcome, _ = outcome_of(answers(http(status=503, headers={"Retry-After": header})))
    assert outcome == Unclear(reason="status 503")


# --- time --------------------------------------------------------------------------------------


def flood(conn: socket.socket, server: RawServer) -> None:
    server.read_request(conn)
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    for _ in range(1000):
        conn.sendall(b"x" * 1_000_000)
    server.requests.append(b"all of it")


@pytest.mark.parametrize(
    ("serve", "outcome"),
    [
        (trickle_head, Unclear(reason="deadline passed", throttled=True)),
        (trickle_body, Sent()),
        (flood, Sent()),
    ],
)
def test_an_answer_without_an_end_ends(serve: Serve, outcome: DeliveryOutcome) -> None:
    started = time.monotonic()
    said, server = outcome_of(serve, deadline_s=DEADLINE_S)
    assert time.monotonic() - started < DEADLINE_S + SLACK_S
    assert said == outcome
    assert len(server.requests) == 1


def test_a_resolver_that_hangs_does_not_hold_it_up() -> None:
    ended = threading.Event()

    def lookup(host: str, port: int) -> list[tuple[int, Any]]:
        ended.wait(30)
        return []

    started = time.monotonic()
    try:
        outcome = channel_at("http://crm.example/", lookup=lookup, deadline_s=DEADLINE_S).deliver(
            reply_of("Yes.")
        )
    finally:
        ended.set()
    assert time.monotonic() - started < DEADLINE_S + SLACK_S
    assert outcome == NotDelivered(reason="lookup: deadline passed", throttled=True)


# --- where it may go ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "2130706433", "0x7f000001", "0x7f.1", "127.1"),
        *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    ],
)
def test_a_private_address_is_refused_before_a_byte(host: str) -> None:
    with raw_server(answers(http())) as server:
        url = f"http://{host}:{server.port}/"
        outcome = channel_at(url, allowed=is_public).deliver(reply_of("Yes."))
        assert outcome == NotDelivered(reason="address not allowed")
        assert server.connections == 0


@pytest.mark.parametrize("host", ["localhost", "2130706433", "[::ffff:127.0.0.1]"])
def test_a_private_address_is_reached_where_it_is_allowed(host: str) -> None:
    with raw_server(answers(http())) as server:
        assert channel_at(f"http://{host}:{server.port}/").deliver(reply_of("Yes.")) == Sent()


def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    looked_up: list[str] = []
    checked: list[str] = []

    def lookup(host: str, port: int) -> list[tuple[int, Any]]:
        looked_up.append(host)
        seen = ("127.0.0.2", "127.0.0.1") if len(looked_up) == 1 else ("127.0.0.3",)
        return [(socket.AF_INET, (one, port)) for one in seen]

    def allowed(address: str) -> bool:
        checked.append(address)
        return address == "127.0.0.1"

    with raw_server(answers(http())) as server:
        url = httpx.URL(f"http://crm.example:{server.port}/")
        endpoint = Endpoint(url, None, max_body_bytes=10, allowed=allowed, lookup=lookup)
        assert isinstance(endpoint.post(b"{}", {}, CallWindow.starting_now(SLACK_S)), Answer)
        window = CallWindow.starting_now(SLACK_S)
        with pytest.raises(IncompleteAnswerError, match=r"^address not allowed$"):
            endpoint.post(b"{}", {}, window)
        assert not window.wrote
    assert checked == ["127.0.0.2", "127.0.0.1", "127.0.0.3"]
    assert looked_up == ["crm.example"] * 2
    assert server.connections == 1
    assert parts_of(server.requests[0])[0]["host"] == f"crm.example:{server.port}"


@pytest.mark.parametrize(("named", "outcome"), [("crm.example", True), ("other.example", False)])
def test_the_certificate_is_the_names_wherever_the_address_came_from(
    tmp_path: Path, named: str, outcome: bool
) -> None:
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=x", "-addext", "subjectAltName=DNS:crm.example"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    asked: list[str] = []
    context.sni_callback = lambda _, name, __: asked.append(name)

    def serve(conn: socket.socket, server: RawServer) -> None:
        with context.wrap_socket(conn, server_side=True) as tls:
            answers(http())(tls, server)

    with raw_server(serve) as server:
        channel = channel_at(
            f"https://{named}:{server.port}/",
            tls=ssl.create_default_context(cafile=cert),
            lookup=lambda _, port: [(socket.AF_INET, ("127.0.0.1", port))],
        )
        said = channel.deliver(reply_of("Yes."))
    assert asked == [named]
    failed = NotDelivered(reason="tls: SSLCertVerificationError")
    assert said == (Sent() if outcome else failed)
