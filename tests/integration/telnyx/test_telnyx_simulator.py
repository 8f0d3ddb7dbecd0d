"""The client against the simulator: a whole talk, and each of the simulator's faults."""

import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from pydantic import SecretStr

from worker.domain.errors import NotFoundError, OperatorError, OutcomeUnknownError
from worker.domain.ids import TelnyxConversationId
from worker.domain.turns.calls import Done, Fault, Refused, Unknown
from worker.net.window import CallWindow
from worker.sandbox.simulator import FAULTS, Endpoint, Simulator, SimulatorConfig, running_simulator
from worker.telnyx.client import TelnyxClient
from worker.telnyx.responses import ResponseRequest

MODEL = "zai-org/GLM-5.3-Flash"
USER = {"worker_user": "u+1 & co"}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(SimulatorConfig(list_visible_after_s=0.0)) as running:
        yield running


@pytest.fixture
def client(simulator: Simulator) -> Iterator[TelnyxClient]:
    key = SecretStr(simulator.api_key)
    with TelnyxClient(key, base_url=simulator.base_url) as one:
        yield one
    simulator.clear_faults()


def ask(text: str, conversation: TelnyxConversationId | None = None) -> ResponseRequest:
    item = {"role": "user", "content": [{"type": "input_text", "text": text}]}
    return ResponseRequest(model=MODEL, input=(item,), conversation=conversation)


def new_conversation(client: TelnyxClient) -> TelnyxConversationId:
    return client.conversations.create(uuid4(), "n", USER).id


def test_a_talk_from_creation_to_deletion(client: TelnyxClient) -> None:
    remote_key, metadata = uuid4(), {**USER, "talk": str(uuid4())}
    made = client.conversations.create(remote_key, "name", metadata)
    assert client.conversations.create(remote_key, "name", metadata).id == made.id
    assert client.conversations.find({"talk": metadata["talk"]}) == (made,)
    assert client.conversations.get(made.id).metadata == metadata

    outcome = client.responses.create(ask("Hello", made.id), CallWindow.starting_now(10))
    assert isinstance(outcome, Done)
    client.conversations.add_message(made.id, uuid4(), role="assistant", text="A human here.")
    log = [(message.role, message.text) for message in client.conversations.messages(made.id)]
    assert [entry for entry in log if entry[1]] == [
        ("user", "Hello"),
        ("assistant", outcome.text),
        ("assistant", "A human here."),
    ]

    client.conversations.update_metadata(made.id, {**metadata, "closed": "yes"})
    assert client.conversations.get(made.id).metadata["closed"] == "yes"
    client.conversations.delete(made.id)
    with pytest.raises(NotFoundError):
        client.conversations.messages(made.id)


def test_the_models_are_those_on_offer(client: TelnyxClient, simulator: Simulator) -> None:
    assert set(client.model_ids()) == set(simulator.config.models)


def test_another_key_is_an_operators_matter(simulator: Simulator) -> None:
    with TelnyxClient(SecretStr("KEY-other"), base_url=simulator.base_url) as client:
        with pytest.raises(OperatorError) as caught:
            client.model_ids()
        assert caught.value.code == "10009"
        outcome = client.responses.create(ask("Hello"), CallWindow.starting_now(10))
    assert isinstance(outcome, Refused)
    assert (outcome.fault, outcome.code) == (Fault.ACCOUNT, "10009")


def test_a_creation_whose_answer_is_lost_is_found_again(
    client: TelnyxClient, simulator: Simulator
) -> None:
    metadata = {"talk": str(uuid4())}
    simulator.inject("creation_lost")
    with pytest.raises(OutcomeUnknownError):
        client.conversations.create(uuid4(), "n", metadata)
    assert len(client.conversations.find(metadata)) == 1


VERDICTS = {
    400: Fault.REQUEST, 401: Fault.ACCOUNT, 402: Fault.ACCOUNT, 403: Fault.ACCOUNT,
    404: Fault.REQUEST, 413: Fault.REQUEST, 422: Fault.REQUEST, 429: Fault.RATE,
    500: Fault.SERVER, 503: Fault.SERVER,
}  # fmt: skip
LOST = {"hang", "dropped", "reset", "stored_then_hang", "stored_then_dropped", "stored_then_reset"}
LOST |= {"input_then_hang", "input_then_dropped", "stored_late", "late_execution", "trickle"}
LOST |= {"cut", "truncated", "empty", "408", "409", "502_html", "503_empty", "504_html"}
# Its answer begins after the deadline of this test.
LOST |= {"stream_keepalive"}
NOTHING_VISIBLE = {"think_unclosed", "tool_markup", "invisible"}


@pytest.mark.parametrize(
    "fault", [name for name, plan in FAULTS.items() if plan.endpoint is Endpoint.RESPONSES]
)
def test_each_fault_comes_to_the_outcome_of_the_table(
    client: TelnyxClient, simulator: Simulator, fault: str
) -> None:
    conversation = new_conversation(client)
    simulator.inject(fault)
    name = fault.removeprefix("stored_then_")
    window = CallWindow.starting_now(0.8 if {fault, name} & LOST else 10)
    started = time.monotonic()
    outcome = client.responses.create(ask("Hello", conversation), window)
    assert time.monotonic() - started < 5
    status = int(name[:3]) if name[:3].isdigit() else 0
    if fault == "conversation_deleted":
        assert isinstance(outcome, Refused)
        assert (outcome.status, outcome.fault) == (404, Fault.REQUEST)
    elif {fault, name} & LOST:
        assert isinstance(outcome, Unknown)
    elif status:
        assert isinstance(outcome, Refused)
        assert (outcome.status, outcome.fault) == (status, VERDICTS[status])
        waits = {"429_retry_after", "429_reset"}
        assert outcome.retry_after_s == (1.0 if name in waits else None)
    else:
        assert isinstance(outcome, Done)
        assert (outcome.text == "") == (
            fault in {"no_message", "failed", "refusal"} | NOTHING_VISIBLE
        )
        expected = {"incomplete": "incomplete", "failed": "failed"}
        assert outcome.status == expected.get(fault, "completed")


# Ties in a shuffled list have no order: that pair is left out.
@pytest.mark.parametrize(
    ("order", "digits"),
    [
        ("newest_first", 6),
        ("newest_first", 0),
        ("oldest_first", 6),
        ("oldest_first", 0),
        ("shuffled", 6),
    ],
)
def test_a_log_reads_in_order_however_it_is_listed(order: str, digits: int) -> None:
    config = SimulatorConfig(messages_order=order, timestamp_digits=digits)  # type: ignore[arg-type]
    with (
        running_simulator(config) as simulator,
        TelnyxClient(SecretStr(simulator.api_key), base_url=simulator.base_url) as client,
    ):
        conversation = new_conversation(client)
        for number in range(60):
            client.conversations.add_message(
                conversation,
                uuid4(),
                role="user" if number % 2 == 0 else "assistant",
                text=str(number),
            )
        messages = client.conversations.messages(conversation)
    assert [message.text for message in messages] == [str(number) for number in range(60)]
