"""What a channel of Telnyx sends, and what Telnyx's answers come to."""

import json
from dataclasses import replace
from uuid import UUID

import pytest

from worker.channels.sms.channel import TelnyxChannel, judge
from worker.channels.sms.codes import TROUBLES, Trouble
from worker.channels.sms.request import pieces_of
from worker.domain.deliveries import (
    NotDelivered,
    OutgoingReply,
    Pause,
    Rejected,
    Sent,
    Unclear,
)
from worker.domain.ids import ChannelUserId, DeliveryId
from worker.domain.messages import ChannelAddress
from worker.domain.sms.answers import SendAnswer
from worker.domain.turns.calls import Fault
from worker.domain.ways_out import TelnyxDelivery
from worker.net.answer import IncompleteAnswerError
from worker.net.window import CallWindow

KEY = UUID("11111111-2222-4333-8444-555555555555")
WAITS = {
    Trouble.PROFILE: Pause(scope="channel", seconds=300),
    Trouble.RATE: Pause(scope="channel", seconds=1),
    Trouble.SLOW: Pause(scope="sender", seconds=60),
    Trouble.SENDER: Pause(scope="sender", seconds=300),
}


def reply(text: str, **more: str) -> OutgoingReply:
    return OutgoingReply(
        delivery_id=DeliveryId(1),
        user_id=ChannelUserId(1),
        idempotency_key=KEY,
        to=ChannelAddress(
            channel="sms", recipient="+13125550100", address="+13125550001", thread=""
        ),
        text=text,
        message_ids=("m-1",),
        metadata={},
        **more,  # type: ignore[arg-type]
    )


class Telnyx:
    """Records one request, and answers or not."""

    def __init__(self, answer: SendAnswer | None = None, *, wrote: bool = True) -> None:
        self.answer = answer
        self.wrote = wrote
        self.seen: list[tuple[str, bytes, str | None]] = []

    def post(self, path: str, body: bytes, key: str | None, window: CallWindow) -> SendAnswer:
        self.seen.append((path, body, key))
        if self.answer is None:
            window.wrote = self.wrote
            raise IncompleteAnswerError("ended early")
        return self.answer

    def channel(self, **options: object) -> TelnyxChannel:
        delivery = TelnyxDelivery(**options)  # type: ignore[arg-type]
        return TelnyxChannel(
            post=self.post, options=delivery, public_url="https://sms.example.com/x"
        )


def test_the_request_is_made_of_stored_values_and_names_the_delivery() -> None:
    channel = Telnyx().channel(profile_id="p-1")
    (piece,) = channel.compose(reply("Grüße"))
    assert piece.key == KEY
    assert piece.request == (
        '{"from":"+13125550100","to":"+13125550001","text":"Grüße",'
        f'"webhook_url":"https://sms.example.com/x/telnyx/messaging/{KEY}",'
        '"messaging_profile_id":"p-1"}'
    )
    assert channel.compose(reply("Grüße")) == (piece,)


def test_the_stored_bytes_go_out_under_the_deliverys_key() -> None:
    telnyx = Telnyx(SendAnswer(status=200, message_id="m-7", parts=2))
    outcome = telnyx.channel().deliver(reply("other", request='{"text":"ä"}'))
    assert telnyx.seen == [("/messages", '{"text":"ä"}'.encode(), str(KEY))]
    assert outcome == Sent(provider_id="m-7", parts=2)


def test_without_a_stored_request_nothing_is_sent() -> None:
    telnyx = Telnyx()
    with pytest.raises(ValueError, match="stored request"):
        telnyx.channel().deliver(reply("hello"))
    assert telnyx.seen == []


def test_a_whatsapp_message_has_its_own_path_and_body() -> None:
    telnyx = Telnyx(SendAnswer(status=200, message_id="m-7"))
    channel = telnyx.channel(whatsapp=True, takes_key=False)
    (piece,) = channel.compose(reply("x" * 5000))
    document = json.loads(piece.request)
    assert document["type"] == "WHATSAPP"
    assert document["whatsapp_message"]["type"] == "text"
    assert 4000 < len(document["whatsapp_message"]["text"]["body"]) <= 4096
    channel.deliver(reply("", request=piece.request))
    ((path, _, key),) = telnyx.seen
    assert (path, key) == ("/messages/whatsapp", None)


def test_a_split_reply_has_a_key_for_each_piece_and_the_same_ones_again() -> None:
    channel = Telnyx().channel(split=True, max_parts=1)
    pieces = channel.compose(reply("one sentence. " * 30))
    assert len(pieces) > 2
    assert pieces[0].key == KEY
    assert len({piece.key for piece in pieces}) == len(pieces)
    assert all(str(piece.key) in piece.request for piece in pieces)
    assert channel.compose(reply("one sentence. " * 30)) == pieces


def test_a_long_reply_is_cut_unless_it_may_be_split() -> None:
    (piece,) = Telnyx().channel(max_parts=2).compose(reply("word " * 200))
    assert len(json.loads(piece.request)["text"]) <= 306


@pytest.mark.parametrize("code", TROUBLES)
@pytest.mark.parametrize("status", [400, 403, 429, 503])
def test_a_code_of_the_table_decides_whatever_the_status(code: str, status: int) -> None:
    outcome = judge(SendAnswer(status=status, fault=Fault.RATE, code=code))
    if code == "40300":
        assert outcome == Rejected(reason="opted_out")
    elif code == "40333":
        pause = Pause(scope="channel", seconds=None)
        assert outcome == NotDelivered(reason="spend_limit", pause=pause)
    elif TROUBLES[code] in {Trouble.PERSON, Trouble.TEXT}:
        assert outcome == Rejected(reason=f"code {code}")
    elif TROUBLES[code] is Trouble.SETUP:
        pause = Pause(scope="sender", seconds=600)
        assert outcome == Rejected(reason=f"code {code}", pause=pause)
    else:
        assert outcome == NotDelivered(reason=f"code {code}", pause=WAITS[TROUBLES[code]])


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (SendAnswer(status=200), Unclear(reason="status 200")),
        (SendAnswer(status=409), Unclear(reason="status 409")),
        (SendAnswer(status=502, pause_s=7), Unclear(reason="status 502", retry_after_s=7)),
        (SendAnswer(status=503, fault=Fault.SERVER), Unclear(reason="status 503")),
        (SendAnswer(status=422, fault=Fault.REQUEST), Rejected(reason="status 422")),
        (
            SendAnswer(status=401, fault=Fault.ACCOUNT),
            NotDelivered(reason="status 401", pause=Pause(scope="channel", seconds=300)),
        ),
        (
            SendAnswer(status=404, fault=Fault.REQUEST),
            NotDelivered(reason="status 404", pause=Pause(scope="channel", seconds=300)),
        ),
        (
            SendAnswer(status=429, fault=Fault.RATE, pause_s=3),
            NotDelivered(reason="status 429", pause=Pause(scope="channel", seconds=3)),
        ),
        (
            SendAnswer(status=429, fault=Fault.RATE, code="40318", pause_s=90),
            NotDelivered(reason="code 40318", pause=Pause(scope="sender", seconds=90)),
        ),
    ],
)
def test_without_a_known_code_the_status_decides(answer: SendAnswer, outcome: object) -> None:
    assert judge(answer) == outcome


@pytest.mark.parametrize(("wrote", "kind"), [(True, Unclear), (False, NotDelivered)])
def test_without_an_answer_it_depends_on_the_first_byte(wrote: bool, kind: type) -> None:
    outcome = Telnyx(wrote=wrote).channel().deliver(reply("", request="{}"))
    assert outcome == kind(reason="ended early")


def test_to_somebody_who_wrote_to_no_number_the_profile_chooses_one() -> None:
    to = ChannelAddress(channel="sms", recipient="", address="+13125550001", thread="")
    options = TelnyxDelivery(profile_id="a-profile")
    (piece,) = pieces_of("Hi", to=to, key=KEY, public_url="https://g.example", options=options)
    body = json.loads(piece.request)
    assert "from" not in body
    assert body["messaging_profile_id"] == "a-profile"


@pytest.mark.parametrize(
    ("options", "asked"),
    [({}, 0), ({"whatsapp": True, "profile_id": "p"}, 0), ({"profile_id": "p"}, 1)],
)
def test_without_a_number_or_a_profile_nothing_is_asked_of_telnyx(
    options: dict[str, object], asked: int
) -> None:
    telnyx = Telnyx(SendAnswer(status=200, message_id="m"))
    nobody = ChannelAddress(channel="sms", recipient="", address="+13125550001", thread="")
    outcome = telnyx.channel(**options).deliver(replace(reply("hi", request="{}"), to=nobody))
    assert (len(telnyx.seen), isinstance(outcome, Rejected)) == (asked, not asked)
    assert getattr(outcome, "pause", None) is None
