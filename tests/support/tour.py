"""The service's own client through every endpoint that it uses, on a simulator."""

from uuid import uuid4

from pydantic import SecretStr

from worker.domain.ids import TelnyxConversationId
from worker.domain.messages import user_item
from worker.domain.tools import tool_item
from worker.domain.turns.calls import Done
from worker.net.window import CallWindow
from worker.sandbox.simulator import Simulator
from worker.telnyx.client import TelnyxClient
from worker.telnyx.responses import ResponseRequest

Item = dict[str, object]

_PICTURE: Item = {"type": "input_image", "image_url": "https://example.com/a.png"}
_TOOL = tool_item("get_order", "", {"type": "object"})
_MARKED = {"worker_user": "u+1 & co, (x.y) \N{SNOWMAN}"}


def tour(sim: Simulator) -> None:
    """Ask for everything once, responses in each form; the simulator must list at once."""
    with TelnyxClient(SecretStr(sim.api_key), base_url=sim.base_url) as client:
        api = client.conversations
        made = api.create(uuid4(), "a name", _MARKED).id
        assert [each.id for each in api.find(_MARKED)] == [made]
        api.get(made)
        api.update_metadata(made, {**_MARKED, "closed": "yes"})
        api.add_message(made, uuid4(), role="assistant", text="A human here.", metadata={"n": 1})
        _talk(client, made)
        api.messages(made)
        client.model_ids()
        api.delete(made)


def _talk(client: TelnyxClient, conversation: TelnyxConversationId) -> None:
    """Plain, with a picture, with a tool, and the tool's output streamed."""

    def ask(item: Item, **more: object) -> Done:
        request = ResponseRequest(
            model="zai-org/GLM-5.3-Flash",
            input=(item,),
            conversation=conversation,
            **more,  # type: ignore[arg-type]
        )
        outcome = client.responses.create(request, CallWindow.starting_now(10))
        assert isinstance(outcome, Done)
        return outcome

    ask(user_item("Hello", ()), instructions="Be kind.")
    ask(user_item("Look", (_PICTURE,)), extra={"region": "EU", "reasoning": {"effort": "low"}})
    asked = ask(user_item("tool:get_order {}", ()), tools=(_TOOL,))
    (call,) = asked.tool_calls
    output: Item = {"type": "function_call_output", "call_id": call.call_id, "output": "shipped"}
    ask(output, tools=(_TOOL,), stream=True)
