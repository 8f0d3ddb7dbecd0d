"""Replies on their way to a webhook: signed, in order, once per webhook-id, to no stranger."""

import base64
import json
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from structlog.testing import capture_logs

from tests.support.raw_server import RawServer, Serve, answers, http, raw_server, reset
from tests.support.signers import signer_of
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.world import HandDrivenWorker, World
from worker.channels.public_addresses import is_public
from worker.channels.task import TaskChannel
from worker.channels.webhook import MAX_BODY_BYTES, WebhookChannel
from worker.domain.deliveries import (
    WEBHOOK_WAITS_S,
    DeliveryOutcome,
    NotDelivered,
    Rejected,
    Sent,
    Unclear,
)
from worker.domain.errors import BrokerAwayError
from worker.domain.ids import ChannelUserId
from worker.net.answer import Answer, IncompleteAnswerError
from worker.net.post_once import Endpoint
from worker.net.window import CallWindow
from worker.testing.channel_cases import ChannelCases, Stage, Weather, reply_of

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD = "whsec_" + base64.b64encode(b"o" * 32).decode()
STRANGE = "whsec_" + base64.b64encode(b"x" * 32).decode()
DEADLINE_S = 0.4
"""Of an attempt that meets silence. Any other has `SLACK_S`: nothing but a hang lasts that long."""
SLACK_S = 5.0
"""A bound against hanging, no measurement: the machine may be busy."""
DAY_S = 86_400.0


@dataclass
class Inbox:
    """A receiver as our pages ask for one: verifies, and drops a webhook-id that it has seen."""

    came: list[str] = field(default_factory=list)
    """The webhook-ids of all requests, in order."""
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    bad: list[bytes] = field(default_factory=list)
    """Answers to give instead of taking anything, one for each request; an empty one = silence."""
    loses_answer: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, conn: socket.socket, server: RawServer) -> None:
        raw = server.read_request(conn)
        headers, body = parts_of(raw)
        document = Webhook(SECRET).verify(body, headers)
        with self.lock:
            self.came.append(headers["webhook-id"])
            instead = self.bad.pop(0) if self.bad else None
            if instead is None:
                self.kept.setdefault(headers["webhook-id"], document)
        if instead == b"":
            server.gone.wait(30)
        elif self.loses_answer:
            reset(conn)
        else:
            conn.sendall(http(b"thanks") if instead is None else instead)

    def texts(self, **where: str) -> list[str]:
        return [
            one["text"]
            for one in self.kept.values()
            if all(one[name] == value for name, value in where.items())
        ]


def parts_of(raw: bytes) -> tuple[dict[str, str], bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body


def channel_at(
    url: str,
    *secrets: str,
    tls: ssl.SSLContext | None = None,
    deadline_s: float = SLACK_S,
    **changes: Any,  # noqa: ANN401 any option of the endpoint
) -> WebhookChannel:
    options = {"max_body_bytes": MAX_BODY_BYTES, "whole_answer": False, **changes}
    endpoint = Endpoint(httpx.URL(url), tls, **options)
    return WebhookChannel(endpoint, signer_of(*(secrets or (SECRET,))), deadline_s)


def outcome_of(serve: Serve, **changes: Any) -> tuple[DeliveryOutcome, RawServer]:  # noqa: ANN401 any option
    with raw_server(serve) as server:
        outcome = channel_at(server.url, **changes).deliver(reply_of("Yes."))
    return outcome, server


# --- the kit for third parties, on our own -----------------------------------------------------


class WebhookStage:
    """A webhook, its receiver, and the wire between."""

    deadline_s = SLACK_S

    def __init__(self, inbox: Inbox, proxy: TcpProxy) -> None:
        self._url = f"http://127.0.0.1:{proxy.port}/in"
        self.channel = channel_at(self._url)
        self._inbox = inbox
        self._proxy = proxy

    def turn(self, weather: Weather) -> bool:
        self.deadline_s = DEADLINE_S if weather is Weather.SILENT else SLACK_S
        self.channel = channel_at(self._url, deadline_s=self.deadline_s)
        self._proxy.mode = Mode.REFUSE if weather is Weather.AWAY else Mode.PASS
        self._inbox.bad[:] = [b""] if weather is Weather.SILENT else []
        self._inbox.loses_answer = weather is Weather.ANSWER_LOST
        return True

    def kept(self) -> Sequence[str]:
        return self._inbox.texts()


class TestWebhookChannel(ChannelCases):
    @contextmanager
    def stage(self) -> Iterator[Stage]:
        inbox = Inbox()
        with raw_server(inbox.serve) as server, TcpProxy(("127.0.0.1", server.port)) as proxy:
            yield WebhookStage(inbox, proxy)


class TaskStage:
    """A Celery task's publishing, and a producer that drops a task id he has seen."""

    deadline_s = DEADLINE_S

    def __init__(self) -> None:
        self.channel = TaskChannel(publish=self._publish, task="crm.take", queue="crm")
        self._weather = Weather.FINE
        self._taken: dict[str, str] = {}

    def _publish(self, *published: Any) -> None:  # noqa: ANN401 name, queue, id, kwargs
        _, _, task_id, kwargs = published
        if self._weather in {Weather.FINE, Weather.ANSWER_LOST}:
            self._taken.setdefault(task_id, kwargs["reply"]["text"])
        if self._weather is not Weather.FINE:
            raise BrokerAwayError("TimeoutError")

    def turn(self, weather: Weather) -> bool:
        self._weather = weather
        return True

    def kept(self) -> Sequence[str]:
        return list(self._taken.values())


class TestTaskChannel(ChannelCases):
    @contextmanager
    def stage(self) -> Iterator[Stage]:
        yield TaskStage()


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


def trickle(conn: socket.socket) -> None:
    while True:
        conn.sendall(b"a")
        time.sleep(0.05)


def trickle_head(conn: socket.socket, server: RawServer) -> None:
    server.read_request(conn)
    conn.sendall(b"HTTP/1.1 200 OK\r\nx-long: ")
    trickle(conn)


def trickle_body(conn: socket.socket, server: RawServer) -> None:
    server.read_request(conn)
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    trickle(conn)


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


# --- through the real handlers -----------------------------------------------------------------


@dataclass
class Line:
    """A worker whose channel `sms` goes to a receiver."""

    world: World
    mike: HandDrivenWorker
    inbox: Inbox
    proxy: TcpProxy

    def say(self, text: str, *, user: str = "+13125550001") -> None:
        """Somebody writes, the reply is stored, and its first attempt made."""
        self.mike.receive(self.world.envelope(text, user=user))
        self.mike.deliver()

    def deliver_due(self) -> int:
        """What the sweeper does with deliveries; gives the number of users."""
        due = self.mike.service.deliver.store.due(limit=100, grace_s=0)
        for user in due:
            self.mike.service.deliver(ChannelUserId(user))
        return len(due)

    def later(self, seconds: float) -> int:
        self.world.clock.advance(seconds)
        return self.deliver_due()

    def states(self) -> list[str]:
        rows = self.world.database.rows("SELECT state FROM deliveries ORDER BY id")
        return [row["state"] for row in rows]

    def gate(self) -> list[tuple[str, str, bool]]:
        rows = self.world.database.rows(
            "SELECT name, reason, closed_until > service_now() AS closed FROM gates"
        )
        return [(row["name"], row["reason"], row["closed"]) for row in rows]


@pytest.fixture
def line(world: World, tmp_path: Path) -> Iterator[Line]:
    inbox = Inbox()
    (tmp_path / "key").write_text(SECRET)
    with raw_server(inbox.serve) as server, TcpProxy(("127.0.0.1", server.port)) as proxy:
        section = (
            f'[channels.sms.delivery]\nurl = "http://127.0.0.1:{proxy.port}/in"\n'
            'secret_file = "key"\nallow_private = true\n'
        )
        yield Line(world=world, mike=world.worker(section), inbox=inbox, proxy=proxy)


def test_a_receiver_that_was_down_gets_each_reply_once_and_in_order(line: Line) -> None:
    people = ("+13125550001", "+13125550002")
    line.proxy.mode = Mode.REFUSE
    for number in range(3):
        for user in people:
            line.say(f"question {number}", user=user)
    assert line.later(5.1) == 2
    line.proxy.mode = Mode.PASS
    line.inbox.bad = [http(status=503)]
    line.proxy.lose_answer_to(b"POST /in", skip=2)
    assert line.later(300.1) == 2
    for _ in range(4):
        line.later(1800.1)
    assert line.states() == ["sent"] * 6

    replies = line.world.database.rows(
        "SELECT u.address, r.text FROM replies r JOIN turns t ON t.id = r.turn_id"
        " JOIN channel_users u ON u.id = t.channel_user_id ORDER BY r.id"
    )
    for user in people:
        wanted = [row["text"] for row in replies if row["address"] == user]
        assert line.inbox.texts(user=user) == wanted
    keys = line.world.database.rows("SELECT idempotency_key::text AS key FROM deliveries")
    assert sorted(line.inbox.kept) == sorted(row["key"] for row in keys)
    assert sorted(Counter(line.inbox.came).values()) == [1, 1, 1, 1, 2, 2]
    assert line.gate() == []


def test_the_whole_schedule_is_kept_and_then_it_is_a_dead_letter(line: Line) -> None:
    line.proxy.mode = Mode.REFUSE
    line.say("hello")
    for wait_s in WEBHOOK_WAITS_S:
        assert line.states() == ["pending"]
        assert line.later(wait_s - 4) == 0
        assert line.later(4.1) == 1
    assert line.states() == ["failed"]
    assert line.world.database.value("SELECT attempts FROM deliveries") == 8
    (letter,) = line.mike.operator.dead_letters.find()
    assert (letter.reason, letter.detail) == (
        "delivery_rejected",
        "connect: ConnectionRefusedError",
    )
    line.proxy.mode = Mode.PASS
    line.mike.operator.replay(letter.id)
    line.deliver_due()
    assert line.states() == ["sent"]


def test_one_reply_blocks_those_behind_it_for_no_longer_than_its_age(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(SECRET)
    inbox = Inbox(bad=[http(status=400)] * 3)
    with raw_server(inbox.serve) as server:
        mike = world.worker(
            "[channels.sms]\ndelivery_max_age_s = 400\n[channels.sms.delivery]\n"
            f'url = "{server.url}"\nsecret_file = "key"\nallow_private = true\n'
        )
        with TcpProxy(("127.0.0.1", server.port)) as proxy:
            line = Line(world=world, mike=mike, inbox=inbox, proxy=proxy)
            line.say("poison")
            assert line.later(5.1) == 1
            line.say("harmless")
            assert line.later(300.1) == 1
            assert line.later(90) == 0
            assert line.later(6) == 1
            assert line.states() == ["expired", "sent"]
            assert len(inbox.came) == 4


def test_gone_is_a_dead_letter_at_once_and_the_next_reply_goes_on(line: Line) -> None:
    line.inbox.bad = [http(status=410)]
    line.say("one")
    line.say("two")
    assert line.states() == ["failed", "sent"]
    (letter,) = line.mike.operator.dead_letters.find()
    assert letter.detail == "status 410"


def test_a_receiver_that_is_throttled_rests_for_everybody(line: Line) -> None:
    line.inbox.bad = [http(status=429, headers={"Retry-After": "60"})]
    line.say("one", user="+13125550001")
    line.say("two", user="+13125550002")
    assert line.states() == ["pending", "pending"]
    assert line.gate() == [("webhook:sms", "status 429", True)]
    assert line.later(58) == 0
    assert line.later(2.1) == 2
    assert line.states() == ["sent", "sent"]
    assert len(line.inbox.came) == 3
    assert line.gate() == []


def test_each_rest_in_a_row_is_longer_and_a_crowd_is_one(line: Line) -> None:
    gates = line.mike.service.deliver.gates
    rests_s = []
    for _ in range(7):
        for _ in range(3):
            gates.failed("sms", reason="deadline passed", rests=True)
        left = "SELECT extract(epoch FROM closed_until - service_now()) FROM gates"
        rests_s.append(round(line.world.database.value(left)))
        line.world.clock.advance(rests_s[-1] + 1)
    assert rests_s == [15, 30, 60, 120, 240, 300, 300]
    for asked_s in (700, 900, 800):
        gates.failed("sms", reason="status 429", rests=True, asked_s=asked_s)
    assert round(line.world.database.value(left)) == 900


def fail_for(line: Line, days: float) -> None:
    """Each half a day somebody writes, and what is due is tried."""
    for _ in range(int(days * 2)):
        line.say("are you there?")
        line.later(DAY_S / 2)


def test_an_endpoint_that_fails_for_days_is_switched_off_until_a_person_mends_it(
    line: Line,
) -> None:
    line.proxy.mode = Mode.REFUSE
    fail_for(line, 4.5)
    assert line.gate() == [("webhook:sms", "connect: ConnectionRefusedError", False)]
    with capture_logs() as logs:
        fail_for(line, 1)
    (alarm,) = (one for one in logs if one["event"] == "webhook.switched_off")
    assert (alarm["log_level"], alarm["channel"]) == ("error", "sms")
    assert line.gate() == [("webhook:sms", "switched_off", True)]

    line.proxy.mode = Mode.PASS
    fail_for(line, 2)
    line.say("one more")
    assert line.inbox.came == []
    line.world.database.run("DELETE FROM gates WHERE name = 'webhook:sms'")
    line.deliver_due()
    assert line.states().count("pending") == 0
    assert len(line.inbox.came) == line.states().count("sent") >= 3
    assert line.states()[-1] == "sent"


def test_one_success_between_keeps_it_on(line: Line) -> None:
    line.proxy.mode = Mode.REFUSE
    fail_for(line, 4.5)
    line.proxy.mode = Mode.PASS
    line.later(DAY_S / 2)
    assert line.gate() == []
    line.proxy.mode = Mode.REFUSE
    fail_for(line, 4.5)
    assert [closed for _, _, closed in line.gate()] == [False]


def test_a_success_while_it_rests_starts_the_count_anew(line: Line) -> None:
    gates = line.mike.service.deliver.gates
    for _ in range(20):
        assert not gates.failed("sms", reason="status 429", rests=True, asked_s=60)
        gates.answered("sms")
        assert line.gate() == [("webhook:sms", "status 429", True)]
        line.world.clock.advance(DAY_S / 2)


def test_rare_failures_are_no_story(line: Line) -> None:
    gates = line.mike.service.deliver.gates
    for _ in range(10):
        for _ in range(3):
            assert not gates.failed("sms", reason="status 500", rests=False)
            line.world.clock.advance(3600)
        line.world.clock.advance(2 * DAY_S)
    assert [closed for _, _, closed in line.gate()] == [False]


def test_a_channel_that_is_switched_off_holds_up_no_other(line: Line) -> None:
    gates = line.mike.service.deliver.gates
    switched_off = []
    for _ in range(12):
        line.world.clock.advance(DAY_S / 2)
        switched_off.append(gates.failed("other", reason="status 500", rests=False))
    assert switched_off.count(True) == 1
    line.say("hello")
    assert line.states() == ["sent"]


def test_no_text_address_or_key_reaches_the_log(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with capture_logs() as logs:
        line.proxy.mode = Mode.REFUSE
        line.say("a secret question")
        line.proxy.mode = Mode.PASS
        line.later(5.1)
    said = json.dumps(logs, default=str) + caplog.text
    assert line.states() == ["sent"]
    assert not any(one in said for one in ("secret question", "3125550001", SECRET, "webhook-sig"))
