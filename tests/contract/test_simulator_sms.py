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


def code_of(answer: httpx.Response) -> tuple[int, str]:
    (error,) = answer.json()["errors"]
    assert error["title"]
    return answer.status_code, error["code"]


def test_a_message_is_queued_and_its_events_come_twice_and_in_the_wrong_order(
    sim: Simulator, api: httpx.Client, hooks: Receiver
) -> None:
    sim.reconfigure(status_order="reversed")
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
    sim.reconfigure(webhook_copies=1, status_order="reversed")
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
    sim.inject("spend_limit")
    sim.inject("403", match=Match(endpoint=Endpoint.SEND), code="40333")
    sim.reconfigure(fault_error_shape="detail")
    assert code_of(api.post("/messages", json=SMS)) == (429, "40318")
    assert code_of(api.post("/messages", json=SMS)) == (429, "40333")
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


def test_usually_the_events_come_in_an_order_of_the_seed(
    sim: Simulator, api: httpx.Client, hooks: Receiver
) -> None:
    for _ in range(10):
        api.post("/messages", json=SMS)
    came = hooks.wait_for(40)
    orders: dict[str, list[str]] = {}
    for each in came:
        orders.setdefault(each.body["data"]["payload"]["id"], []).append(each.event_type)
    assert len({tuple(order) for order in orders.values()}) > 2


def test_the_events_can_come_before_the_answer(
    sim: Simulator, api: httpx.Client, hooks: Receiver
) -> None:
    api.post("/messages", json=SMS, headers={"x-sim-fault": "events_first"})
    assert len(hooks.posted) == 4


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("+19990040300", (403, "40300")),
        ("+19990040318", (429, "40318")),
        ("+19990040333", (429, "40333")),
        ("+19990040322", (422, "40322")),
    ],
)
def test_a_magic_number_is_refused_with_its_code(
    api: httpx.Client, number: str, expected: tuple[int, str]
) -> None:
    assert code_of(api.post("/messages", json={**SMS, "to": number})) == expected


def test_a_magic_number_fails_after_its_message_was_taken(
    sim: Simulator, api: httpx.Client, hooks: Receiver
) -> None:
    sim.reconfigure(webhook_copies=1, status_order="in_order")
    assert api.post("/messages", json={**SMS, "to": "+19990040006"}).status_code == 200
    finalized = hooks.wait_for(2)[1].body["data"]["payload"]
    assert finalized["to"][0]["status"] == "delivery_failed"
    assert finalized["errors"][0]["code"] == "40006"


def test_the_spend_limit_lasts_until_it_is_taken_back(sim: Simulator, api: httpx.Client) -> None:
    sim.reconfigure(spend_limit_reached=True)
    for _ in range(2):
        assert code_of(api.post("/messages", json=SMS)) == (429, "40333")
    sim.reconfigure(spend_limit_reached=False)
    assert api.post("/messages", json=SMS).status_code == 200


def test_opt_outs_are_listed_in_pages_and_a_number_can_be_blocked_without_a_word(
    sim: Simulator, api: httpx.Client
) -> None:
    for number in ("+13125550001", "+13125550002"):
        sim.receive_sms(InboundSms(sender=number, recipient=OURS, text="Stop"))
    sim.block("+13125550003")
    assert code_of(api.post("/messages", json={**SMS, "to": "+13125550003"})) == (403, "40300")
    first = api.get("/messaging_optouts", params={"page[size]": 2}).json()
    second = api.get("/messaging_optouts", params={"page[size]": 2, "page[number]": 2}).json()
    assert first["meta"]["total_results"] == 3
    assert [row["to"] for row in first["data"] + second["data"]] == [
        "+13125550001",
        "+13125550002",
        "+13125550003",
    ]
    assert (first["data"][0]["from"], first["data"][0]["keyword"]) == (OURS, "STOP")
    ours = {"filter[from]": OURS, "created_at[gte]": first["data"][1]["created_at"]}
    (row,) = api.get("/messaging_optouts", params=ours).json()["data"]
    assert row["to"] == "+13125550002"


def test_the_profile_its_numbers_keywords_and_campaign_are_shown(
    sim: Simulator, api: httpx.Client
) -> None:
    (profile,) = api.get("/messaging_profiles").json()["data"]
    assert (profile["enabled"], profile["webhook_api_version"]) == (True, "2")
    path = f"/messaging_profiles/{profile['id']}"
    assert api.get(path).json()["data"] == profile
    (number,) = api.get(f"{path}/phone_numbers").json()["data"]
    assert number["phone_number"] == OURS
    assert api.get(f"{path}/autoresp_configs").json()["data"] == []
    campaign = api.get("/10dlc/phone_number_campaigns/%2B13125550100").json()
    assert (campaign["phoneNumber"], campaign["assignmentStatus"]) == (OURS, "ASSIGNED")
    sim.reconfigure(profile={"enabled": False}, profile_keywords=["REVOKE"], campaign_status=None)
    assert api.get(path).json()["data"]["enabled"] is False
    (words,) = api.get(f"{path}/autoresp_configs").json()["data"]
    assert (words["op"], words["keywords"]) == ("stop", ["REVOKE"])
    assert code_of(api.get("/10dlc/phone_number_campaigns/%2B13125550100")) == (404, "10005")
    assert code_of(api.get("/messaging_profiles/other")) == (404, "10005")


def test_a_whatsapp_message_goes_out_and_comes_in_as_whatsapp_has_them(
    sim: Simulator, api: httpx.Client, hooks: Receiver
) -> None:
    sim.reconfigure(webhook_copies=1)
    body = {
        "from": OURS,
        "to": THEIRS,
        "type": "WHATSAPP",
        "whatsapp_message": {"type": "text", "text": {"body": "Hi", "preview_url": False}},
    }
    assert api.post("/messages/whatsapp", json=body).json()["data"]["type"] == "WHATSAPP"
    assert sim.sms()[0].text == "Hi"
    body["whatsapp_message"] = {"type": "text", "text": {"body": "x" * 4097}}
    assert code_of(api.post("/messages/whatsapp", json=body))[1] == "40008"
    hooks.wait_for(2)
    sim.receive_sms(InboundSms(sender=THEIRS, recipient=OURS, text="Hello", whatsapp=True))
    payload = hooks.wait_for(3)[2].body["data"]["payload"]
    assert (payload["type"], payload["to"]) == ("WHATSAPP", OURS)
    assert payload["body"]["text"]["body"] == "Hello"


def test_all_text_messages_can_be_read_over_http(sim: Simulator, api: httpx.Client) -> None:
    api.post("/messages", json=SMS)
    (shown,) = api.get(sim.base_url.replace("/v2", "/sim/sms")).json()
    assert (shown["direction"], shown["text"]) == ("outbound", "Hello")
