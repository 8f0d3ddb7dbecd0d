"""The controls under /sim, for those who run the simulator as a process. They want no key.

POST   /sim/faults         {"fault", "match"?: {"endpoint", "conversation_id", "text"}, "count"?,
                            "skip"?, "changes"?}
GET    /sim/faults         orders that still wait       DELETE /sim/faults    take all back
POST   /sim/key            {"api_key"}                  POST   /sim/models    {"id", "available"}
POST   /sim/config         {setting: value, ...}        POST   /sim/scripts   {"text", "reply"?,
POST   /sim/messages       {"conversation_id", "text",                          "calls"?, "count"?}
                            "role"?}: from nowhere      GET    /sim/log       the log, JSON lines
POST   /sim/inbound        {"sender", "recipient", "text"?, "media"?, "copies"?, "signing"?}: a text
                            message from a phone; answers with `event_id` and `message_id`
POST   /sim/optouts        {"number", "opted_out"}: blocked or not, without a word from the phone
GET    /sim/sms[?number=]  all text messages of both directions, as Telnyx shows them
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import TypeAlias

from aiohttp import web
from pydantic import TypeAdapter

from worker.sandbox.simulator.behaviour.faults import FaultOrder
from worker.sandbox.simulator.behaviour.model import Script
from worker.sandbox.simulator.endpoints.messaging.receiving import InboundSms, receive
from worker.sandbox.simulator.record.log import dumped
from worker.sandbox.simulator.record.values import Draft, Json
from worker.sandbox.simulator.state.state import State

Control: TypeAlias = Callable[[bytes], Json | None]
"""Does what a raw JSON body asks for, and may have to say more than that it did; ValueError where
it makes no sense."""
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """The one key that is accepted from now on."""

    api_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChange:
    """Whether a model is offered."""

    id: str
    available: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOutChange:
    """Whether Telnyx blocks messages to a number."""

    number: str
    opted_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignMessage:
    """A message that no request of ours brought."""

    conversation_id: str
    text: str
    role: str = "user"


_ORDER = TypeAdapter(FaultOrder)
_SCRIPT = TypeAdapter(Script)
_KEY = TypeAdapter(KeyChange)
_MODEL = TypeAdapter(ModelChange)
_FOREIGN = TypeAdapter(ForeignMessage)
_INBOUND = TypeAdapter(InboundSms)
_OPT_OUT = TypeAdapter(OptOutChange)
_SETTINGS = TypeAdapter(Json)


def inject(state: State, order: FaultOrder) -> None:
    """Let a fault wait for its requests."""
    state.faults.inject(order)
    state.steered("inject", **asdict(order))


def clear_faults(state: State) -> None:
    """Take back all orders of faults."""
    state.faults.clear()
    state.steered("clear_faults")


def set_model_available(state: State, model: str, *, available: bool) -> None:
    """Offer a model, or no longer."""
    if available:
        state.withdrawn.discard(model)
    else:
        state.withdrawn.add(model)
    state.steered("set_model_available", model=model, available=available)


def add_script(state: State, script: Script) -> None:
    """Script an answer of the model."""
    state.scripts.append(script)
    state.steered("add_script", **asdict(script))


def append_foreign(state: State, message: ForeignMessage) -> None:
    """Put a message into a thread that no request brought."""
    draft = Draft(role=message.role, text=message.text, origin="foreign")
    state.store.add(None, message.conversation_id, [draft])


def admin_routes(state: State) -> list[web.RouteDef]:
    """Return the routes of the controls."""

    async def orders(_: web.Request) -> web.Response:
        return web.json_response([asdict(each) for each in state.faults.orders()])

    async def log(_: web.Request) -> web.Response:
        lines = b"".join(dumped(entry) for entry in state.log.entries())
        return web.Response(body=lines, content_type="application/x-ndjson")

    async def sms(request: web.Request) -> web.Response:
        number = request.query.get("number")
        found = [
            one.listed()
            for one in state.sms.messages()
            if number in {None, one.sender, one.recipient}
        ]
        return web.json_response(found)

    return [
        web.get("/sim/sms", sms),
        *(web.post(f"/sim/{name}", _handler(act)) for name, act in _controls(state).items()),
        web.delete("/sim/faults", _handler(lambda _: clear_faults(state))),
        web.get("/sim/faults", orders),
        web.get("/sim/log", log),
    ]


def _controls(state: State) -> dict[str, Control]:
    def model(raw: bytes) -> None:
        change = _MODEL.validate_json(raw)
        set_model_available(state, change.id, available=change.available)

    def opt_out(raw: bytes) -> None:
        change = _OPT_OUT.validate_json(raw)
        state.sms.set_opted_out(change.number, opted_out=change.opted_out)

    return {
        "faults": lambda raw: inject(state, _ORDER.validate_json(raw)),
        "key": lambda raw: state.reconfigure(asdict(_KEY.validate_json(raw))),
        "models": model,
        "config": lambda raw: state.reconfigure(_SETTINGS.validate_json(raw)),
        "scripts": lambda raw: add_script(state, _SCRIPT.validate_json(raw)),
        "messages": lambda raw: append_foreign(state, _FOREIGN.validate_json(raw)),
        "optouts": opt_out,
        "inbound": lambda raw: receive(state, _INBOUND.validate_json(raw)),
    }


def _handler(act: Control) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        try:
            said = act(await request.read())
        except ValueError as error:
            return web.json_response({"detail": str(error)}, status=422)
        return web.json_response({"ok": True, **(said or {})})

    return handle
