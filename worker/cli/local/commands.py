# ruff: noqa: PLC0415 - each command imports what it needs when it runs, so that --help is quick
"""The commands that run the service on this machine: demo, up, chat and sim."""

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.options import START, Host, Port, given


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


def up(
    *,
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Migrate the configured database first.")
    ] = False,
    flower: Annotated[
        bool, typer.Option("--flower/--no-flower", help="Run Flower, the web page to watch.")
    ] = True,
    flower_port: Annotated[
        int, typer.Option(help="Flower's port; 0 takes 5555, or a free one.", min=0, max=65535)
    ] = 0,
) -> None:
    """Run the service here: a worker, and Flower to watch it. Ctrl-C stops both.

    Servers that are not configured are embedded and kept in .sandbox: a Postgres without
    DATABASE_URL, a Redis without BROKER_URL, a simulated Telnyx without TELNYX_API_KEY. In
    production start the worker itself: celery -A worker worker.
    """
    from worker.cli.local import up as command

    command.run(migrate=migrate, flower=flower, flower_port=flower_port)


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


def sim(
    *,
    port: Port = 8765,
    host: Host = "127.0.0.1",
    port_file: Annotated[
        Path | None, typer.Option(help="Write the port here once it serves.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed for latencies, random faults and the webhook key.")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(help="Keep the state in this file; the next start continues from it."),
    ] = None,
    latency_s: Annotated[
        float | None,
        typer.Option("--latency", min=0, help="Seconds until the model answers."),
    ] = None,
    switch: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A setting of the simulator; repeatable."),
    ] = None,
) -> None:
    """Run only the simulated Telnyx, to build or test a client. Ctrl-C stops it.

    worker sim --latency 0.5 --switch list_visible_after_s=5
    """
    from worker.cli.local import sim as command

    command.run(
        host=host,
        port=port,
        port_file=port_file,
        seed=seed,
        log=log,
        latency_s=latency_s,
        switches=switch or [],
    )
