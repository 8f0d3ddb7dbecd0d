# ruff: noqa: PLC0415 - heavy imports wait until the command runs, so that --help is quick
"""`worker channels try`: what becomes of one message, without any server."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer

from worker.cli.errors import MisuseError
from worker.cli.options import Json

if TYPE_CHECKING:
    from worker.config.settings import Settings
    from worker.domain.messages import NewMessage
    from worker.domain.routing import Routing

channels = typer.Typer(no_args_is_help=True, help="What the channels do with a message.")
_SAMPLE_URL: Final = "https://gateway.example.com"
"""In place of PUBLIC_URL, as the zeros are of the delivery's key."""


@channels.callback()
def _group() -> None:
    """Keep `try` a command of a group: typer would make it the group itself."""


@channels.command("try")
def try_message(
    path: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A webhook of Telnyx or an envelope as JSON, or a mail; - reads standard input.",
        ),
    ],
    *,
    reply: Annotated[
        str | None, typer.Option(help="What the model answers, to see what would be sent.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what becomes of a text message or of a mail, without any server.

    Is it answered, and which rule says no? What would the model get, and which requests to Telnyx,
    or which mail, send the reply? Exits 1 if the message would be a dead letter.
    """
    from worker.cli.operators.try_mail import is_mail, try_mail
    from worker.cli.send.dry_run import lines_of, outcome_of, read_file, show
    from worker.config.agents_file import load_agents
    from worker.config.settings import settings_for
    from worker.domain.messages import input_parts, input_text, user_item

    settings = settings_for()
    routing, _ = load_agents(settings.agents_file)
    raw = read_file(path)
    if is_mail(raw):
        try_mail(raw, routing, reply=reply, as_json=as_json)
        return
    facts, message = outcome_of(_envelope_in(raw, routing), routing)
    facts |= {"model_input": None, "requests": []}
    if message is not None:
        answered = facts["verdict"] == "answered"
        if answered:
            facts["model_input"] = user_item(input_text([message]), input_parts([message]))
        text = reply if answered else message.verdict and message.verdict.text
        if text:
            facts["requests"] = list(_requests(text, message, routing, settings))
    show(facts, (*lines_of(facts), *_lines(facts)), as_json=as_json)


def _envelope_in(raw: bytes, routing: "Routing") -> bytes:
    """Return the envelope that the gateway makes of a webhook, or the bytes as they are.

    Raises `MisuseError` for a webhook that is about no message of a person.
    """
    from worker.channels.sms.events import Inbound, read_event

    try:
        document = json.loads(raw)
    except ValueError:
        return raw
    if not isinstance(document, dict) or "data" not in document:
        return raw
    event = read_event(document, None)
    if not isinstance(event, Inbound):
        kind = getattr(event, "reason", type(event).__name__.lower())
        raise MisuseError(f"this webhook brings no message of a person: {kind}")
    channel = routing.telnyx_channel(whatsapp=event.whatsapp)
    return json.dumps({"channel": channel, **event.envelope}).encode()


def _requests(
    text: str, message: "NewMessage", routing: "Routing", settings: "Settings"
) -> Iterator[dict[str, Any]]:
    """Yield path, body and parts of each message that sends the text, as the first to a person."""
    from worker.channels.sms.request import SMS_PATH, WHATSAPP_PATH, pieces_of
    from worker.domain.people.disclosure import before, disclosure_text
    from worker.domain.sms.segments import segments
    from worker.domain.ways_out import TelnyxDelivery

    policy = routing.delivery_policy(message.who.channel, message.reply_to)
    options = policy.delivery
    if policy.disclosure is not None and message.verdict is None:
        told = disclosure_text(policy.disclosure, routing.agent(message.agent).hand_over)
        text = before(text, told)
    if not isinstance(options, TelnyxDelivery):
        raise MisuseError(f"--reply: channel {message.who.channel} has no driver of Telnyx")
    url, key = settings.public_url or _SAMPLE_URL, UUID(int=0)
    for piece in pieces_of(text, to=message.who, key=key, public_url=url, options=options):
        facts: dict[str, Any] = {"encoding": None, "parts": None}
        if not options.whatsapp:
            sent = json.loads(piece.request)["text"]
            facts = asdict(segments(sent, short_code=message.who.recipient.isdigit()))
        path = WHATSAPP_PATH if options.whatsapp else SMS_PATH
        yield {"path": path, **facts, "body": piece.request}


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Label each line, so that none of a text passes for one of ours."""
    if facts["model_input"] is not None:
        for part in facts["model_input"]["content"]:
            for line in part.get("text", part.get("image_url", "")).splitlines():
                yield f"model gets    {line}"
    for number, one in enumerate(facts["requests"], 1):
        counted = f", {one['encoding']}, parts: {one['parts']}" if one["parts"] else ""
        yield f"request {number}     POST {one['path']}{counted}"
        yield f"body          {one['body']}"
