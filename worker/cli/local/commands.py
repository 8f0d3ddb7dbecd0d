# ruff: noqa: PLC0415 - each command imports what it needs when it runs, so that --help is quick
"""The commands that run the service on this machine: demo, up, chat and sim."""

from typing import Annotated

import typer

from worker.cli.local.sim import sim
from worker.cli.local.up import up
from worker.cli.options import START, given


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (demo, up, chat, sim):
        app.command(rich_help_panel=START)(command)


def demo() -> None:
    """See it work: messages of several people, their replies, and the proof. Takes some seconds.

    Needs nothing and configures nothing: Postgres, Redis and a simulated Telnyx run in .sandbox
    for as long as the demo takes. Uses no server and no account of yours, even if configured.
    """
    from worker.cli.local import demo as command

    command.run()


def chat(
    *,
    channel: Annotated[str, typer.Option(help="The channel to write on.")] = "web",
    user: Annotated[str, typer.Option(help="Who you are on it.")] = "you",
    recipient: Annotated[str, typer.Option(help="Our address that you write to.")] = "",
    thread: Annotated[str, typer.Option(help="A thread of its own.")] = "",
    agent: Annotated[str | None, typer.Option(help="Which agent answers.")] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", help="Give up after this many seconds without a reply.")
    ] = 120.0,
) -> None:
    """Talk to the service through the queue and a worker; each line is one message.

    Uses the service that runs; if none does, starts one for the chat. Lines may come from a pipe:
    echo "Hello" | worker chat
    """
    from worker.cli.local import chat as command

    person = given(channel=channel, user=user, recipient=recipient, thread=thread, agent=agent)
    command.run(person, timeout_s=timeout_s)
