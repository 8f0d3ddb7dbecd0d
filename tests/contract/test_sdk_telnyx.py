"""The unchanged `telnyx` SDK against the simulator, over HTTP, without its retries.

Like the other SDK it builds its objects without checking them: answers are checked against its
types as well.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
import telnyx
from pydantic import BaseModel
from telnyx import Telnyx
from telnyx.types import MessageSendResponse, ModelMetadata
from telnyx.types.ai import (
    Conversation,
    ConversationListResponse,
    ConversationRetrieveConversationsInsightsResponse,
    ConversationRetrieveResponse,
    ConversationUpdateResponse,
)
from telnyx.types.ai.conversations import MessageListResponse

from tests.support.receiver import receiver
from worker.sandbox.simulator import InboundSms, Simulator, SimulatorConfig, running_simulator
from worker.sandbox.simulator.record.sms import Signing

MODEL = SimulatorConfig().models[0]
TOOL = {"type": "function", "name": "get_order", "parameters": {"type": "object"}}


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    config = SimulatorConfig(list_visible_after_s=0, messages_order="oldest_first")
    with running_simulator(config) as running:
        yield running


@pytest.fixture(scope="module")
def client(sim: Simulator) -> Iterator[Telnyx]:
    with sdk(sim, sim.api_key) as one:
        yield one


@pytest.fixture
def thread(client: Telnyx) -> str:
    return client.ai.conversations.create().id


def sdk(sim: Simulator, api_key: str) -> Telnyx:
    return Telnyx(api_key=api_key, base_url=sim.base_url, max_retries=0, timeout=10)


def checked(kind: type[BaseModel], raw: bytes) -> None:
    """Check an answer against a type of the SDK."""
    kind.model_validate_json(raw)


def test_a_conversation_from_its_creation_to_its_end(client: Telnyx) -> None:
    api, metadata = client.ai.conversations, {"channel": "sms", "person": "+1 & co"}
    made = api.create(name="a name", metadata=metadata)
    assert UUID(made.id)
    assert (made.name, made.metadata) == ("a name", metadata)
    assert api.retrieve(made.id).data == made
    changed = api.update(made.id, metadata={**metadata, "closed": "yes"})
    assert changed.data.metadata["closed"] == "yes"
    assert api.delete(made.id) is None
    with pytest.raises(telnyx.NotFoundError):
        api.retrieve(made.id)


def test_every_answer_is_what_the_sdks_types_want(client: Telnyx) -> None:
    api = client.ai.conversations.with_raw_response
    made = api.create(name="n", metadata={"a": "b"})
    checked(Conversation, made.http_response.content)
    key = made.parse().id
    checked(ConversationRetrieveResponse, api.retrieve(key).http_response.content)
    checked(ConversationUpdateResponse, api.update(key, metadata={"a": "c"}).http_response.content)
    checked(ConversationListResponse, api.list().http_response.content)
    insights = api.retrieve_conversations_insights(key)
    checked(ConversationRetrieveConversationsInsightsResponse, insights.http_response.content)
    models = client.ai.openai.with_raw_response.list_models().http_response.json()["data"]
    for model in models:
        ModelMetadata.model_validate(model)
    sent = client.messages.with_raw_response.send(from_="+13125550100", to="+13125550001", text="x")
    checked(MessageSendResponse, sent.http_response.content)


def test_conversations_are_found_by_their_metadata(client: Telnyx) -> None:
    api, mark = client.ai.conversations, str(uuid4())
    made = [
        api.create(metadata={"mark": mark, "telnyx_end_user_target": f"+1312555000{number}"}).id
        for number in range(3)
    ]
    filters = {"metadata->mark": f"eq.{mark}"}
    found = api.list(extra_query=filters, order="created_at.desc", limit=2)
    assert [each.id for each in found.data] == made[:0:-1]
    found = api.list(metadata_telnyx_end_user_target="eq.+13125550001", extra_query=filters)
    assert [each.id for each in found.data] == [made[1]]
    earliest = api.retrieve(made[0]).data.created_at.isoformat()
    either = f"(created_at.lt.{earliest},created_at.gt.{earliest})"
    assert len(api.list(or_=either, extra_query=filters).data) == 2
    with pytest.raises(telnyx.UnprocessableEntityError):
        api.list(extra_query={"metadata->>mark": f"eq.{mark}"})


def test_messages_are_added_and_read_page_by_page(client: Telnyx, thread: str) -> None:
    api, moment = client.ai.conversations, datetime(2026, 10, 21, 13, 9, tzinfo=UTC)
    for number in range(5):
        api.add_message(
            thread,
            role="user" if number % 2 else "assistant",
            content=str(number),
            sent_at=moment,
            metadata={"number": number, "marks": ["a", "b"]},
        )
    first = api.messages.list(thread, page_size=2)
    assert (len(first.data or []), first.meta and first.meta.total_pages) == (2, 3)
    read = list(first)  # walks all pages
    assert [each.text for each in read] == list("01234")
    assert {each.sent_at for each in read} == {moment}
    assert read[3].metadata == {"number": 3, "marks": ["a", "b"]}
    raw = api.messages.with_raw_response.list(thread).http_response.json()["data"]
    for each in raw:
        MessageListResponse.model_validate(each)


def test_a_response_goes_into_its_thread(client: Telnyx, thread: str) -> None:
    answer = client.ai.openai.create_response(model=MODEL, input="Hello", conversation=thread)  # type: ignore[arg-type]
    assert answer["status"] == "completed"
    assert answer["output"][-1]["content"][0]["text"].startswith("Thanks for writing!")  # type: ignore[index]
    told = [each for each in client.ai.conversations.messages.list(thread) if each.text]
    assert [each.role for each in told] == ["user", "assistant"]
    client.ai.openai.create_response(model=MODEL, input="Hello")  # type: ignore[arg-type]
    assert len([each for each in client.ai.conversations.messages.list(thread) if each.text]) == 2


def test_a_streamed_response_is_read_line_by_line(client: Telnyx) -> None:
    with client.ai.openai.with_streaming_response.create_response(
        model=MODEL,
        input="Hello",  # type: ignore[arg-type]
        stream=True,
    ) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("event: ")]
    assert (lines[0], lines[-1]) == ("event: response.created", "event: response.completed")


def test_a_tools_round_trip_is_seen_in_the_thread(client: Telnyx, thread: str) -> None:
    def ask(said: object) -> dict[str, object]:
        return client.ai.openai.create_response(
            model=MODEL,
            input=said,  # type: ignore[arg-type]
            conversation=thread,
            extra_body={"tools": [TOOL]},
        )

    first = ask('tool:get_order {"order_id":42}')
    (call,) = [item for item in first["output"] if item["type"] == "function_call"]  # type: ignore[attr-defined]
    ask([{"type": "function_call_output", "call_id": call["call_id"], "output": "shipped"}])
    told = [
        each
        for each in client.ai.conversations.messages.list(thread)
        if each.text or each.tool_calls
    ]
    assert [each.role for each in told] == ["user", "assistant", "tool", "assistant"]
    assert told[1].tool_calls is not None
    assert told[1].tool_calls[0].function.arguments == '{"order_id":42}'


def test_the_same_key_creates_one_conversation(client: Telnyx, sim: Simulator) -> None:
    key, mark = str(uuid4()), {"mark": str(uuid4())}
    api = client.ai.conversations
    first = api.with_raw_response.create(metadata=mark, idempotency_key=key)
    again = api.with_raw_response.create(metadata=mark, idempotency_key=key)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert first.parse().id == again.parse().id
    assert sum(each.metadata == mark for each in sim.conversations()) == 1
    with pytest.raises(telnyx.UnprocessableEntityError):
        api.create(metadata={"other": "x"}, idempotency_key=key)
    with pytest.raises(telnyx.UnprocessableEntityError):
        api.create(metadata=mark, idempotency_key="with space")


def test_the_same_key_adds_one_message(client: Telnyx, thread: str) -> None:
    for _ in range(2):
        client.ai.conversations.add_message(
            thread, role="user", content="once", idempotency_key="once"
        )
    assert len(list(client.ai.conversations.messages.list(thread))) == 1


def test_a_lost_creation_is_replayed_under_its_key(client: Telnyx, sim: Simulator) -> None:
    key, mark = str(uuid4()), {"mark": str(uuid4())}
    with pytest.raises(telnyx.APIConnectionError):
        client.ai.conversations.create(
            metadata=mark, idempotency_key=key, extra_headers={"x-sim-fault": "creation_lost"}
        )
    made = client.ai.conversations.create(metadata=mark, idempotency_key=key)
    assert [each.id for each in sim.conversations() if each.metadata == mark] == [made.id]


ERRORS = [
    ("401", telnyx.AuthenticationError),
    ("404", telnyx.NotFoundError),
    ("409", telnyx.ConflictError),
    ("422", telnyx.UnprocessableEntityError),
    ("429_reset", telnyx.RateLimitError),
    ("500", telnyx.InternalServerError),
    ("504_html", telnyx.InternalServerError),
    ("reset", telnyx.APIConnectionError),
]


@pytest.mark.parametrize(("name", "error"), ERRORS, ids=[name for name, _ in ERRORS])
def test_each_fault_is_the_sdks_own_error(
    client: Telnyx, name: str, error: type[telnyx.APIError]
) -> None:
    with pytest.raises(error) as caught:
        client.ai.conversations.list(extra_headers={"x-sim-fault": name})
    assert type(caught.value) is error


def test_a_wrong_key_and_a_wrong_thread_are_errors_without_a_fault(
    client: Telnyx, sim: Simulator
) -> None:
    with sdk(sim, "KEY-other") as stranger, pytest.raises(telnyx.AuthenticationError):
        stranger.ai.conversations.list()
    with pytest.raises(telnyx.NotFoundError):
        client.ai.conversations.messages.list(str(uuid4()))
    with pytest.raises(telnyx.UnprocessableEntityError):
        client.ai.conversations.retrieve("no-uuid")


def test_there_are_no_insights_in_the_documented_shapes(client: Telnyx, thread: str) -> None:
    api = client.ai.conversations
    assert api.retrieve_conversations_insights(thread).data == []
    assert list(api.insights.list()) == []
    assert list(api.insight_groups.retrieve_insight_groups()) == []
    assert api.conversation_insights.retrieve_aggregates().data == []
    for missing in (
        lambda: api.insights.retrieve(str(uuid4())),
        lambda: api.retrieve_conversations_insights(str(uuid4())),
    ):
        with pytest.raises(telnyx.NotFoundError):
            missing()


def test_a_text_message_is_sent_and_looked_up(client: Telnyx) -> None:
    sent = client.messages.send(
        from_="+13125550100", to="+13125550001", text="Hi", idempotency_key=str(uuid4())
    ).data
    assert sent is not None
    assert sent.to is not None
    assert sent.to[0].status == "queued"
    assert sent.id is not None
    found = client.messages.retrieve(sent.id).data
    assert found is not None
    assert found.id == sent.id
    with pytest.raises(telnyx.UnprocessableEntityError) as caught:
        client.messages.send(from_="+13125550100", to="nobody", text="Hi")
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["errors"][0]["code"] == "40310"


@pytest.mark.parametrize("signing", ["good", "forged", "old"])
def test_the_sdk_takes_our_signatures_and_no_others(client: Telnyx, signing: Signing) -> None:
    with receiver() as hooks:
        config = SimulatorConfig(webhook_url=hooks.url, webhook_copies=1)
        with running_simulator(config) as sim:
            inbound = InboundSms(sender="+13125550001", recipient="+2", text="Hi", signing=signing)
            sim.receive_sms(inbound)
            (posted,) = hooks.wait_for(1)
            key = sim.public_key
    if signing == "good":
        event = client.webhooks.unwrap(posted.raw.decode(), headers=posted.headers, key=key)
        assert event.data.event_type == "message.received"  # type: ignore[union-attr]
        assert event.data.payload.text == "Hi"  # type: ignore[union-attr]
        return
    # Which error it is depends on whether anything in this process has imported telnyx.lib.
    with pytest.raises(Exception, match=r"(?i)signature|timestamp"):
        client.webhooks.unwrap(posted.raw.decode(), headers=posted.headers, key=key)
