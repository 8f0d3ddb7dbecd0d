"""Replies on their way to a webhook: repeated, in order, and given up."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.raw_server import http, raw_server
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.webhook_inbox import SECRET, Inbox
from tests.support.world import HandDrivenWorker, World
from worker.domain.deliveries import (
    WEBHOOK_WAITS_S,
)
from worker.domain.ids import ChannelUserId

DAY_S = 86_400.0


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
