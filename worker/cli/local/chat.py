# ruff: noqa: PLC0415 - the command imports what it needs when it runs, so that --help is quick
"""`worker chat`: one channel user, through the whole service: queue, worker, Telnyx, Postgres."""

from typing import Annotated, Final

import typer

from worker.cli.errors import MisuseError
from worker.cli.options import given

_YOU: Final = "you"
_A_PHONE: Final = "+13125550177"
_AN_ADDRESS: Final = "you@example.org"


def chat(
    *,
    channel: Annotated[str, typer.Option(help="The channel to write on.")] = "web",
    user: Annotated[str, typer.Option(help="Who you are on it.")] = _YOU,
    recipient: Annotated[str, typer.Option(help="Our address that you write to.")] = "",
    thread: Annotated[str, typer.Option(help="A thread of its own.")] = "",
    agent: Annotated[str | None, typer.Option(help="Which agent answers.")] = None,
    sms: Annotated[
        bool, typer.Option("--sms", help="Be a phone: text through the simulated Telnyx.")
    ] = False,
    mail: Annotated[
        bool, typer.Option("--mail", help="Be a mail program: each line is a mail of one thread.")
    ] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", help="Give up after this many seconds without a reply.")
    ] = 120.0,
) -> None:
    """Talk to the service through the queue and a worker; each line is one message.

    Uses the service that runs; if none does, starts one for the chat. Lines may come from a pipe:
    echo "Hello" | worker chat

    With --sms each line is a text message to our number, which arrives by Telnyx's webhook and the
    gateway, and the answers are those that reach the phone: try STOP, HELP and START.

    With --mail each line is a mail that quotes what it answers, and the answers are the mails that
    the service sends: see .sandbox/mails.
    """
    if sms and mail:
        raise MisuseError("--sms and --mail exclude each other")
    from worker.cli.local import conversation

    if mail:
        conversation.by_mail(_AN_ADDRESS if user == _YOU else user, timeout_s)
    elif sms:
        conversation.by_phone(_A_PHONE if user == _YOU else user, recipient, timeout_s)
    else:
        fields = given(channel=channel, user=user, recipient=recipient, thread=thread, agent=agent)
        conversation.by_queue(fields, timeout_s)
