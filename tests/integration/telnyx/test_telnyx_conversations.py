"""Conversations against canned answers: what is sent, and what is made of what comes back."""

from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from tests.support.raw_server import answers, http, raw_server
from worker.domain.errors import (
    ConflictError,
    NotFoundError,
    OutcomeUnknownError,
    PermanentError,
    RetryableError,
)
from worker.domain.ids import TelnyxConversationId
from worker.domain.turns.records import Conversation
from worker.telnyx.client import TelnyxClient

ID = TelnyxConversationId(UUID("6a09cdc3-8948-47f0-aa62-74ac943d6c58"))
KEY = UUID("8e03978e-40d5-43e8-bc93-6894a57f9326")
AT = "2026-10-21T13:07:28.764000Z"
ROW = {"id": str(ID), "created_at": AT, "metadata": {"worker_user": "u", "n": 1}, "name": ""}
CONVERSATION = Conversation(id=ID, metadata={"worker_user": "u", "n": "1"})


class Talking:
    """A client and a server with these answers."""

    def __init__(self, *canned: bytes) -> None:
        self._server = raw_server(answers(*canned))

    def __enter__(self) -> tuple[TelnyxClient, list[bytes]]:
        server = self._server.__enter__()
        self._client = TelnyxClient(SecretStr("KEY"), base_url=server.url)
        return self._client, server.requests

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._server.__exit__(None, None, None)


def first_line(request: bytes) -> str:
    return request.split(b"\r\n")[0].decode()


@pytest.mark.parametrize("body", [ROW, {"data": ROW}])
def test_a_conversation_is_created_under_its_key(body: object) -> None:
    with Talking(http(body)) as (client, requests):
        assert client.conversations.create(KEY, "n", {"b": "2", "a": "1"}) == CONVERSATION
        assert client.conversations.create(KEY, "n", {"a": "1", "b": "2"}) == CONVERSATION
    assert first_line(requests[0]) == "POST /v2/ai/conversations HTTP/1.1"
    assert b"\r\nIdempotency-Key: 8e03978e-40d5-43e8-bc93-6894a57f9326\r\n" in requests[0]
    assert requests[0].endswith(b'\r\n\r\n{"name":"n","metadata":{"a":"1","b":"2"}}')
    assert requests[0] == requests[1]


@pytest.mark.parametrize("body", [b"", b"<html>", {"data": []}, {"id": "no uuid"}])
def test_a_creation_whose_answer_is_unreadable_may_have_happened(body: object) -> None:
    with Talking(http(body)) as (client, _), pytest.raises(OutcomeUnknownError):
        client.conversations.create(KEY, "n", {})


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (409, b"", RetryableError),
        (422, {"errors": [{"code": "10027"}]}, ConflictError),
        (422, {"detail": [{"loc": ["body"], "msg": "m"}]}, PermanentError),
        (503, {"errors": [{"code": "10037"}]}, OutcomeUnknownError),
    ],
)
def test_a_creation_that_fails_says_how(status: int, body: object, kind: type[Exception]) -> None:
    with Talking(http(body, status=status)) as (client, _), pytest.raises(kind) as caught:
        client.conversations.create(KEY, "n", {})
    assert type(caught.value) is kind


def rows(*created: str, user: str = "u") -> bytes:
    return http(
        {
            "data": [
                {"id": str(UUID(int=int(at))), "created_at": at, "metadata": {"worker_user": user}}
                for at in created
            ]
        }
    )


def numbers(found: tuple[Conversation, ...]) -> list[int]:
    return [conversation.id.int for conversation in found]


def test_nothing_found_is_one_request() -> None:
    with Talking(http({"data": []})) as (client, requests):
        assert client.conversations.find({"worker_user": "a+b"}) == ()
    assert [first_line(request) for request in requests] == [
        (
            "GET /v2/ai/conversations?metadata-%3Eworker_user=eq.a%2Bb"
            "&order=created_at.asc&limit=100 HTTP/1.1"
        )
    ]


def test_a_long_list_is_walked_until_nothing_new_comes() -> None:
    pages = [rows("1", "2"), rows("2", "3"), rows("3")]
    with Talking(*pages) as (client, requests):
        assert numbers(client.conversations.find({"worker_user": "u"})) == [1, 2, 3]
    assert ["created_at=gte." in first_line(request) for request in requests] == [False, True, True]
    assert "&created_at=gte.3&" in first_line(requests[2])


def test_a_list_that_ignores_the_filters_gives_what_matches_and_ends() -> None:
    stranger = {"id": str(uuid4()), "created_at": "9", "metadata": {"worker_user": "stranger"}}
    bare = {"id": str(uuid4()), "created_at": "9", "metadata": None}
    with Talking(http({"data": [stranger, {"id": "?"}, ROW, bare]})) as (client, requests):
        assert client.conversations.find({"worker_user": "u"}) == (CONVERSATION,)
    assert len(requests) == 2


def test_all_pairs_must_match() -> None:
    with Talking(http({"data": [ROW]})) as (client, _):
        assert client.conversations.find({"worker_user": "u", "n": "2"}) == ()


def test_a_list_without_an_end_is_given_up() -> None:
    pages = [rows(str(n)) for n in range(1, 60)]
    with Talking(*pages) as (client, _), pytest.raises(RetryableError, match="pages"):
        client.conversations.find({"worker_user": "u"})


def test_an_empty_filter_is_a_mistake() -> None:
    with Talking(rows("1")) as (client, requests), pytest.raises(ValueError, match="filter"):
        client.conversations.find({})
    assert requests == []


@pytest.mark.parametrize("body", [ROW, {"data": ROW}])
def test_a_conversation_is_read(body: object) -> None:
    with Talking(http(body)) as (client, requests):
        assert client.conversations.get(ID) == CONVERSATION
    assert first_line(requests[0]) == f"GET /v2/ai/conversations/{ID} HTTP/1.1"
    assert b"Content-Type" not in requests[0]


def test_a_conversation_that_is_gone_is_not_found() -> None:
    with Talking(http(status=404)) as (client, _), pytest.raises(NotFoundError):
        client.conversations.get(ID)


def test_an_unreadable_conversation_is_asked_for_again() -> None:
    with Talking(http(b"<html>")) as (client, _), pytest.raises(RetryableError):
        client.conversations.get(ID)


def test_changes_are_sent_and_any_2xx_is_enough() -> None:
    with Talking(http(b"")) as (client, requests):
        client.conversations.update_metadata(ID, {"a": "1"})
        client.conversations.delete(ID)
        client.conversations.add_message(
            ID,
            KEY,
            role="assistant",
            text="Hello",
            metadata={"ours": True},
        )
    assert [first_line(request) for request in requests] == [
        f"PUT /v2/ai/conversations/{ID} HTTP/1.1",
        f"DELETE /v2/ai/conversations/{ID} HTTP/1.1",
        f"POST /v2/ai/conversations/{ID}/message HTTP/1.1",
    ]
    assert requests[0].endswith(b'\r\n\r\n{"metadata":{"a":"1"}}')
    assert b"\r\nIdempotency-Key: 8e03978e-40d5-43e8-bc93-6894a57f9326\r\n" in requests[2]
    assert requests[2].endswith(
        b'\r\n\r\n{"role":"assistant","content":"Hello","metadata":{"ours":true}}'
    )


def test_the_log_is_read_by_pages() -> None:
    def page(*texts: str) -> bytes:
        data = [{"role": "user", "text": text, "sent_at": AT} for text in texts]
        return http({"data": data, "meta": {"total_results": 3}})

    with Talking(page("a", "b"), page("c")) as (client, requests):
        messages = client.conversations.messages(ID)
    assert [message.text for message in messages] == ["a", "b", "c"]
    assert [first_line(request) for request in requests] == [
        f"GET /v2/ai/conversations/{ID}/messages?page%5Bsize%5D=100&page%5Bnumber%5D={n} HTTP/1.1"
        for n in (1, 2)
    ]


def test_the_models_are_listed() -> None:
    with Talking(http({"object": "list", "data": [{"id": "a/b"}, {"id": 1}, {}]})) as (client, _):
        assert client.model_ids() == ("a/b",)
