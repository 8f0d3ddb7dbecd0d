"""What goes on the wire, byte for byte."""

import json
from types import MappingProxyType
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.domain.ids import TelnyxConversationId
from worker.domain.timing import Timing
from worker.net.connection import address_of
from worker.net.post_once import parse_url
from worker.net.window import CallWindow
from worker.telnyx.conversations import find_path
from worker.telnyx.http.connection_per_thread import encode, url_below
from worker.telnyx.responses import ResponseRequest

CONVERSATION = TelnyxConversationId(UUID("6a09cdc3-8948-47f0-aa62-74ac943d6c58"))


def test_a_filter_is_encoded_as_telnyx_reads_it() -> None:
    assert find_path({"user": "a b&c+d@e.com", "channel": "sms"}) == (
        "/ai/conversations?metadata-%3Echannel=eq.sms&metadata-%3Euser=eq.a+b%26c%2Bd%40e.com"
        "&order=created_at.asc&limit=100"
    )
    assert "metadata-%3Etelnyx_end_user_target=eq.%2B13128675309&" in find_path(
        {"telnyx_end_user_target": "+13128675309"}
    )


def test_a_walk_goes_on_where_it_ended() -> None:
    path = find_path({"k": "v"}, "2026-10-21T13:07:28.764000+00:00")
    assert "&created_at=gte.2026-10-21T13%3A07%3A28.764000%2B00%3A00&" in path


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1))
def test_no_filter_can_leave_its_place(metadata: dict[str, str]) -> None:
    printable = {
        key.encode("utf-8", "replace").decode(): value.encode("utf-8", "replace").decode()
        for key, value in metadata.items()
    }
    path = find_path(printable)
    assert path.isascii()
    assert path.isprintable()
    assert path.count("=") == len(printable) + 2
    assert " " not in path
    assert url_below(parse_url("http://h/v2"), path).target == b"/v2" + path.encode()


def test_a_request_holds_what_it_was_given_and_nothing_else() -> None:
    request = ResponseRequest(
        model="m",
        input=(MappingProxyType({"role": "user", "content": "Grüße \U0001f600"}),),
        conversation=CONVERSATION,
        instructions="be nice",
        tools=({"type": "function", "name": "f"},),
        extra={"reasoning": {"effort": "low"}, "max_output_tokens": 5},
    )
    assert request.body().decode() == (
        '{"model":"m","conversation":"6a09cdc3-8948-47f0-aa62-74ac943d6c58",'
        '"instructions":"be nice","input":[{"role":"user","content":"Grüße \U0001f600"}],'
        '"tools":[{"type":"function","name":"f"}],"reasoning":{"effort":"low"},'
        '"max_output_tokens":5}'
    )
    assert request.body() == request.body()


def test_a_stateless_request_names_no_conversation_and_no_tools() -> None:
    assert ResponseRequest(model="m", input=()).body() == b'{"model":"m","input":[]}'


@settings(deadline=None)
@given(st.text())
@example("half a pair: \ud83d")
def test_every_text_can_be_sent(text: str) -> None:
    expected = text.replace("\ud83d", "?")
    assert json.loads(encode({"text": text})) == {"text": expected}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"bytes"])
def test_what_is_no_json_is_refused_before_it_is_sent(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode({"value": value})


def test_a_base_url_is_taken_apart() -> None:
    base = parse_url("https://api.telnyx.com/v2/")
    assert address_of(base) == ("api.telnyx.com", 443)
    assert url_below(base, "/x?y=1").target == b"/v2/x?y=1"
    assert url_below(parse_url("http://h"), "/x").target == b"/x"
    assert url_below(parse_url("http://h/v2?y=1"), "/x").target == b"/v2/x"
    assert parse_url("http://localhost:8080").netloc == b"localhost:8080"
    assert address_of(parse_url("http://[::1]:8080/v2")) == ("::1", 8080)


@pytest.mark.parametrize("path", ["/a b\x00", "/" + "x" * 70_000, "/\n"])
def test_a_path_that_cannot_be_sent_is_refused_unquoted(path: str) -> None:
    with pytest.raises(ValueError, match="no path") as caught:
        url_below(parse_url("http://h/v2"), path)
    assert path not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_window_that_may_wait_less_than_it_may_send_ends_with_the_wait() -> None:
    window = CallWindow.since(100.0, timeout_s=1.0, send_grace_s=2.0)
    assert (window.send_by, window.finish_by) == (101.0, 101.0)
    window = CallWindow.since(100.0, timeout_s=75.0, send_grace_s=Timing().send_grace_s)
    assert (window.send_by, window.finish_by) == (102.0, 175.0)
