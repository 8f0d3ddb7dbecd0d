"""Events of the simulator: signed, repeated, given up, never in anybody's way."""

import base64
import time
from collections.abc import Iterator

import httpx
import pytest
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tests.support.processes import eventually
from tests.support.receiver import Posted, Receiver, receiver
from worker.sandbox.simulator import InboundSms, Simulator, SimulatorConfig, running_simulator
from worker.sandbox.simulator.endpoints.messaging.receiving import keyword, receive
from worker.sandbox.simulator.record.events import WebhookAttempted

INBOUND = InboundSms(sender="+13125550001", recipient="+13125550100", text="Hello")


@pytest.fixture
def hooks() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def sim(hooks: Receiver) -> Iterator[Simulator]:
    config = SimulatorConfig(
        webhook_url=f"{hooks.url}/first",
        webhook_failover_url=f"{hooks.url}/second",
        webhook_copies=1,
        webhook_backoff_s=0.05,
    )
    with running_simulator(config) as running:
        yield running


def verify(public_key: str, posted: Posted) -> None:
    """Check as a receiver does: the timestamp, a bar, and the body byte for byte."""
    signed = posted.headers["telnyx-timestamp"].encode() + b"|" + posted.raw
    signature = base64.b64decode(posted.headers["telnyx-signature-ed25519"])
    VerifyKey(base64.b64decode(public_key)).verify(signed, signature)


def attempts(sim: Simulator) -> list[WebhookAttempted]:
    return [entry.event for entry in sim.log() if isinstance(entry.event, WebhookAttempted)]


def until_attempts(sim: Simulator, count: int) -> list[WebhookAttempted]:
    eventually(lambda: len(attempts(sim)) >= count, timeout_s=5)
    return attempts(sim)


def test_a_text_message_from_a_phone_arrives_signed(sim: Simulator, hooks: Receiver) -> None:
    event_id = sim.receive_sms(INBOUND)
    (posted,) = hooks.wait_for(1)
    verify(sim.public_key, posted)
    assert abs(int(posted.headers["telnyx-timestamp"]) - time.time()) < 5
    body = posted.body
    assert body["meta"] == {"attempt": 1, "delivered_to": f"{hooks.url}/first"}
    assert (body["data"]["id"], body["data"]["event_type"]) == (event_id, "message.received")
    payload = body["data"]["payload"]
    assert (payload["from"]["phone_number"], payload["text"]) == (INBOUND.sender, "Hello")
    assert payload["to"][0]["phone_number"] == INBOUND.recipient
    assert (payload["direction"], payload["type"]) == ("inbound", "SMS")
    assert "autoresponse_type" not in payload


def test_a_picture_makes_it_an_mms(sim: Simulator, hooks: Receiver) -> None:
    url = "https://example.com/a.png"
    sim.receive_sms(InboundSms(sender="+13125550001", recipient="+13125550100", media=(url,)))
    payload = hooks.wait_for(1)[0].body["data"]["payload"]
    assert (payload["type"], payload["media"][0]["url"], payload["text"]) == ("MMS", url, "")


def test_the_public_key_is_told_to_who_has_the_api_key(sim: Simulator) -> None:
    headers = {"authorization": f"Bearer {sim.api_key}"}
    told = httpx.get(f"{sim.base_url}/public_key", headers=headers).json()["data"]["public"]
    assert told == sim.public_key
    assert len(base64.b64decode(told)) == 32
    assert httpx.get(f"{sim.base_url}/public_key").status_code == 401


def test_a_forged_and_an_old_event_can_be_ordered(sim: Simulator, hooks: Receiver) -> None:
    for signing in ("forged", "old"):
        order = {"sender": "+1", "recipient": "+2", "text": "x", "signing": signing}
        assert httpx.post(f"{sim.root_url}/sim/inbound", json=order).status_code == 200
    posted = hooks.wait_for(2)
    (forged,) = [each for each in posted if _is_fresh(each)]
    (old,) = [each for each in posted if not _is_fresh(each)]
    with pytest.raises(BadSignatureError):
        verify(sim.public_key, forged)
    verify(sim.public_key, old)


def test_the_events_of_a_sent_message_can_be_forged(sim: Simulator, hooks: Receiver) -> None:
    headers = {"authorization": f"Bearer {sim.api_key}", "x-sim-fault": "events_forged"}
    sms = {"from": "+13125550100", "to": "+13125550001", "text": "x"}
    assert httpx.post(f"{sim.base_url}/messages", json=sms, headers=headers).status_code == 200
    for posted in hooks.wait_for(2):
        with pytest.raises(BadSignatureError):
            verify(sim.public_key, posted)


def _is_fresh(posted: Posted) -> bool:
    return time.time() - int(posted.headers["telnyx-timestamp"]) < 300


def test_the_admin_call_names_the_event_and_an_event_can_come_several_times(
    sim: Simulator, hooks: Receiver
) -> None:
    order = {"sender": "+1", "recipient": "+2", "text": "x", "copies": 3}
    told = httpx.post(f"{sim.root_url}/sim/inbound", json=order).json()
    posted = hooks.wait_for(3)
    assert {each.body["data"]["id"] for each in posted} == {told["event_id"]}
    assert {each.body["data"]["payload"]["id"] for each in posted} == {told["message_id"]}
    assert httpx.post(f"{sim.root_url}/sim/inbound", json={"text": "x"}).status_code == 422


def test_an_event_is_tried_three_times_then_at_the_failover(
    sim: Simulator, hooks: Receiver
) -> None:
    hooks.answers = {"/first": [500, 404, 302], "/second": [503, 200]}
    sim.receive_sms(INBOUND)
    posted = hooks.wait_for(5)
    assert [each.path for each in posted] == ["/first"] * 3 + ["/second"] * 2
    assert [each.body["meta"]["attempt"] for each in posted] == [1, 2, 3, 4, 5]
    assert len({each.body["data"]["id"] for each in posted}) == 1
    for each in posted:
        verify(sim.public_key, each)
    told = until_attempts(sim, 5)
    assert [each.outcome for each in told] == ["failed"] * 4 + ["delivered"]
    assert [each.status for each in told] == [500, 404, 302, 503, 200]


def test_after_six_failures_an_event_is_gone(sim: Simulator, hooks: Receiver) -> None:
    hooks.answers = {"/first": [500], "/second": [500]}
    sim.reconfigure(webhook_backoff_s=0.001)
    sim.receive_sms(INBOUND)
    assert len(until_attempts(sim, 6)) == 6
    hooks.answers = {}
    sim.receive_sms(INBOUND)
    assert len(hooks.wait_for(7)) == 7


def test_the_wait_between_attempts_doubles(sim: Simulator, hooks: Receiver) -> None:
    hooks.answers = {"/first": [500]}
    started = time.monotonic()
    sim.receive_sms(INBOUND)
    hooks.wait_for(3)
    assert time.monotonic() - started >= 0.15


def test_a_receiver_that_is_too_slow_has_failed(sim: Simulator, hooks: Receiver) -> None:
    assert SimulatorConfig().webhook_timeout_s == 2.0
    hooks.silent = {"/first"}
    sim.reconfigure(webhook_timeout_s=0.1, webhook_attempts=1)
    sim.receive_sms(INBOUND)
    assert [each.path for each in hooks.wait_for(2)] == ["/first", "/second"]
    assert until_attempts(sim, 2)[0].status is None


def test_events_stay_on_this_machine_unless_told_otherwise(sim: Simulator) -> None:
    sim.reconfigure(webhook_url="http://198.51.100.7/x", webhook_failover_url="https://a.invalid")
    sim.receive_sms(INBOUND)
    assert [each.outcome for each in until_attempts(sim, 2)] == ["not_local"] * 2


def test_only_so_many_run_at_once_and_a_stop_waits_for_none_of_them(hooks: Receiver) -> None:
    hooks.silent = {"/"}
    config = SimulatorConfig(webhook_url=f"{hooks.url}/", webhook_timeout_s=60)
    with running_simulator(config) as sim:
        for _ in range(80):
            sim.receive_sms(INBOUND)
        hooks.wait_for(50)
        for _ in range(5):  # the loop has turned many times then
            httpx.get(f"{sim.root_url}/sim/faults")
        assert len(hooks.posted) == 50
        started = time.monotonic()
    assert time.monotonic() - started < 10


def test_more_events_than_anybody_waits_for_are_dropped(hooks: Receiver) -> None:
    hooks.silent = {"/"}
    config = SimulatorConfig(webhook_url=f"{hooks.url}/", webhook_timeout_s=60, webhook_copies=1)
    with running_simulator(config) as sim:
        sim._call(lambda: [receive(sim._state, INBOUND) for _ in range(2_005)])
        told = until_attempts(sim, 5)
        assert [each.outcome for each in told] == ["overflow"] * 5


@pytest.mark.parametrize(
    ("text", "first_word", "whole", "exact"),
    [
        ("STOP", "STOP", "STOP", "STOP"),
        ("stop", "STOP", "STOP", None),
        (" Stop all ", "STOP", "STOP", None),
        ("Stop!", "STOP", None, None),
        ("Stop by tomorrow", "STOP", None, None),
        ("unstop", "START", "START", None),
        ("HELP", "HELP", "HELP", "HELP"),
        ("please stop", None, None, None),
        ("stopping", None, None, None),
        ("", None, None, None),
    ],
)
def test_a_keyword_is_recognized_under_each_reading(
    text: str, first_word: str | None, whole: str | None, exact: str | None
) -> None:
    readings = (keyword(text, "first_word"), keyword(text, "whole"), keyword(text, "exact"))
    assert readings == (first_word, whole, exact)


def test_a_keyword_is_told_with_the_message(sim: Simulator, hooks: Receiver) -> None:
    for text in ("STOP", "START", "HELP"):
        sim.receive_sms(InboundSms(sender="+1", recipient="+2", text=text))
        told = hooks.wait_for(1)[-1].body["data"]["payload"]
        assert told["autoresponse_type"] == told["text"] == text
        hooks.posted.clear()
