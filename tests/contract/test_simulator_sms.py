"""Text messages at the simulator: sent, told of, refused, repeated."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.receiver import Receiver, receiver
from worker.sandbox.simulator import (
    Endpoint,
    InboundSms,
    Match,
    Simulator,
    SimulatorConfig,
    running_simulator,
)

OURS, THEIRS = "+13125550100", "+13125550001"
SMS = {"from": OURS, "to": THEIRS, "text": "Hello"}


@pytest.fixture
def hooks() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def sim(hooks: Receiver) -> Iterator[Simulator]:
    config = SimulatorConfig(webhook_url=f"{hooks.url}/hooks", webhook_backoff_s=0.01)
    with running_simulator(config) as running:
        yield running


@pytest.fixture
def api(sim: Simulator) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {sim.api_key}"}
    with httpx.Client(base_url=sim.base_url, headers=headers, timeout=5) as client:
        yield client


def code_of(answer: httpx.Response) -> tuple[int, str]:
    (error,) = answer.json()["errors"]
    assert error["title"]
    return answer.status_code, error["code"]


def test_a_message_is_queued_and_its_events_come_twice_and_in_the_wrong_order(
    api: httpx.Client, hooks: Receiver
) -> None:
    answer = api.post("/messages", json=SMS)
    assert answer.status_code == 200
    queued = answer.json()["data"]
    assert (queued["to"][0]["status"], queued["parts"], queued["type"]) == ("queued", 1, "SMS")
    came = hooks.wait_for(4)
    told = [(each.event_type, each.body["data"]["payload"]["to"][0]["status"]) for each in came]
    final, sent = ("message.finalized", "delivered"), ("message.sent", "sent")
    assert told == [final, final, sent, sent]
    assert {each.body["data"]["payload"]["id"] for each in came} == {queued["id"]}
    assert len({each.body["data"]["id"] for each in came}) == 2
    shown = api.get(f"/messages/{queued['id']}").json()["data"]
    assert shown["to"][0]["status"] == "delivered"
    assert shown["completed_at"]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("", ["message.sent", "message.finalized"]),
        ("events_reversed", ["message.finalized", "message.sent"]),
        (
            "events_twice",
            ["message.sent", "message.sent", "message.finalized", "message.finalized"],
        ),
    ],
)
def test_events_come_as_the_switches_and_the_faults_want(
    sim: Simulator, api: httpx.Client, hooks: Receiver, fault: str, expected: list[str]
) -> None:
    sim.reconfigure(webhook_copies=1, status_order="in_order")
    api.post("/messages", json=SMS, headers={"x-sim-fault": fault} if fault else {})
    assert [each.event_type for each in hooks.wait_for(len(expected))] == expected


def test_a_message_can_stay_undelivered(sim: Simulator, api: httpx.Client, hooks: Receiver) -> None:
    sim.reconfigure(webhook_copies=1)
    api.post("/messages", json=SMS, headers={"x-sim-fault": "undelivered; final_code=40010"})
    finalized = hooks.wait_for(2)[0].body["data"]["payload"]
    assert finalized["to"][0]["status"] == "delivery_failed"
    assert finalized["errors"][0]["code"] == "40010"


def test_a_messages_own_url_goes_before_the_profiles(api: httpx.Client, hooks: Receiver) -> None:
    api.post("/messages", json={**SMS, "webhook_url": f"{hooks.url}/own"})
    assert {each.path for each in hooks.wait_for(4)} == {"/own"}


def test_lost_events_never_come(sim: Simulator, api: httpx.Client, hooks: Receiver) -> None:
    sim.reconfigure(webhook_copies=1)
    lost = api.post("/messages", json=SMS, headers={"x-sim-fault": "events_lost"}).json()
    api.post("/messages", json=SMS)
    ids = {each.body["data"]["payload"]["id"] for each in hooks.wait_for(2)}
    assert lost["data"]["id"] not in ids


def test_after_stop_nothing_goes_to_that_number_until_start(
    sim: Simulator, api: httpx.Client
) -> None:
    sim.receive_sms(InboundSms(sender=THEIRS, recipient=OURS, text="stop"))
    assert code_of(api.post("/messages", json=SMS)) == (403, "40300")
    assert api.post("/messages", json={**SMS, "to": "+13125550002"}).status_code == 200
    for status in (400, 422):
        sim.reconfigure(opted_out_status=status)
        assert code_of(api.post("/messages", json=SMS)) == (status, "40300")
    sim.receive_sms(InboundSms(sender=THEIRS, recipient=OURS, text="Start"))
    assert api.post("/messages", json=SMS).status_code == 200


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"to": "nobody"}, (422, "40310")),
        ({"to": 13125550001}, (422, "40310")),
        ({"to": None}, (422, "10004")),
        ({"from": None}, (422, "40305")),
        ({"from": "+1"}, (422, "40305")),
        ({"from": "SHOP"}, (422, "40306")),
        ({"text": ""}, (422, "40316")),
        ({"text": "x" * 1531}, (400, "40302")),
        ({"text": "\N{PILE OF POO}" * 336}, (400, "40302")),
        ({"text": "\u201cquoted\u201d", "encoding": "gsm7"}, (400, "10015")),
        ({"media_urls": ["http://example.com/a.png"] * 11}, (422, "40317")),
        ({"send_at": "2030-01-01T00:00:00Z"}, (422, "10015")),
    ],
)
def test_a_message_that_cannot_go_is_refused_with_telnyxs_code(
    sim: Simulator, api: httpx.Client, change: dict[str, object], expected: tuple[int, str]
) -> None:
    assert code_of(api.post("/messages", json={**SMS, **change})) == expected
    assert sim.sms() == ()


def test_a_bad_number_can_be_refused_as_somebody_saw_it(sim: Simulator, api: httpx.Client) -> None:
    sim.reconfigure(bad_number_status=400, bad_number_code="10002")
    assert code_of(api.post("/messages", json={**SMS, "to": "x"})) == (400, "10002")


@pytest.mark.parametrize(
    "change",
    [
        {"text": "x" * 1530},
        {"to": "12345"},
        {"from": "SHOP", "messaging_profile_id": "p"},
        {"from": None, "messaging_profile_id": "p"},
        {"text": None, "media_urls": ["http://example.com/a.png"]},
    ],
)
def test_a_message_within_the_rules_is_taken(api: httpx.Client, change: dict[str, object]) -> None:
    assert api.post("/messages", json={**SMS, **change}).status_code == 200


def test_the_same_key_and_body_send_one_message(sim: Simulator, api: httpx.Client) -> None:
    keyed = {"idempotency-key": "k-1"}
    first = api.post("/messages", json=SMS, headers=keyed)
    again = api.post("/messages", json=SMS, headers=keyed)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert code_of(api.post("/messages", json={**SMS, "text": "x"}, headers=keyed))[0] == 422
    assert code_of(api.post("/messages", json=SMS, headers={"idempotency-key": "a b"}))[0] == 422
    assert len(sim.sms()) == 1


def test_a_lost_answer_is_replayed_under_its_key(sim: Simulator, api: httpx.Client) -> None:
    sim.inject("send_lost")
    keyed = {"idempotency-key": "k-1"}
    with pytest.raises(httpx.RemoteProtocolError):
        api.post("/messages", json=SMS, headers=keyed)
    assert api.post("/messages", json=SMS, headers=keyed).json()["data"]["id"] == sim.sms()[0].id
    assert len(sim.sms()) == 1


def test_a_full_queue_and_any_other_refusal_can_be_ordered(
    sim: Simulator, api: httpx.Client
) -> None:
    sim.inject("queue_full")
    sim.inject("403", match=Match(endpoint=Endpoint.SEND), code="40333")
    sim.reconfigure(fault_error_shape="detail")
    assert code_of(api.post("/messages", json=SMS)) == (429, "40318")
    assert code_of(api.post("/messages", json=SMS)) == (403, "40333")
    assert sim.sms() == ()


def test_messages_and_opt_outs_outlive_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("sim") / "log"
    with running_simulator(log_path=path) as sim:
        sim.receive_sms(InboundSms(sender=THEIRS, recipient=OURS, text="STOP"))
        (kept,) = sim.sms()
    with running_simulator(log_path=path) as sim:
        assert sim.sms() == (kept,)
        headers = {"authorization": f"Bearer {sim.api_key}"}
        answer = httpx.post(f"{sim.base_url}/messages", json=SMS, headers=headers)
        assert code_of(answer) == (403, "40300")


def test_what_is_not_there_or_not_json_is_refused(api: httpx.Client) -> None:
    assert code_of(api.get("/messages/nonsense")) == (404, "10005")
    assert code_of(api.post("/messages", content=b"{")) == (400, "10023")
