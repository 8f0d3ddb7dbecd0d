# ruff: noqa: PLC0415 - heavy imports wait until the command runs, so that --help is quick
"""`worker try-agent`: one question to an agent of the agents file, beside all conversations."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.errors import CommandError, MisuseError
from worker.cli.options import Json
from worker.cli.text import print_json, print_text

if TYPE_CHECKING:
    from worker.domain.turns.calls import Done


def try_agent(
    name: Annotated[str, typer.Argument(metavar="NAME", help="[agents.NAME] of the agents file.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The message to answer.")],
    *,
    as_json: Json = False,
) -> None:
    """Ask an agent once, as AGENTS_FILE has it now: its answer, tokens, and the tools it wanted.

    Runs no tool, delivers nothing, and stores nothing here or at Telnyx. Only the call is paid for.
    """
    done = _ask(name, text)
    if as_json:
        wanted = [{"name": one.name, "arguments": one.arguments} for one in done.tool_calls]
        tokens = {"input_tokens": done.input_tokens, "output_tokens": done.output_tokens}
        print_json({"status": done.status, "text": done.text, "tools": wanted} | tokens)
        return
    # Each line has its label: no line of the answer may pass for one of ours.
    for line in done.text.split("\n"):
        print_text(f"answer  {line}")
    print_text(f"tokens  {done.input_tokens} in, {done.output_tokens} out")
    for one in done.tool_calls:
        print_text(f"wanted  {one.name} {one.arguments}")
    if done.status != "completed":
        print_text(f"status  {done.status} {done.incomplete_reason or ''}")


def _ask(name: str, text: str) -> "Done":
    """Call the model once, on no conversation. Raises `CommandError` and `SettingsError`."""
    from worker.bootstrap.telnyx import build_telnyx
    from worker.config.agents_file import load_agents
    from worker.config.settings import settings_for
    from worker.domain.messages import user_item
    from worker.domain.turns.calls import Done, Refused
    from worker.net.window import CallWindow
    from worker.observability.logs import log_warnings_only
    from worker.telnyx.responses import ResponseRequest
    from worker.tools.build import build_tools

    log_warnings_only()
    settings = settings_for("telnyx_api_key")
    routing, _ = load_agents(settings.agents_file)
    agent = routing.agents.get(name)
    if agent is None:
        raise MisuseError(f"there is no such agent: name one of {', '.join(routing.agents)}")
    tools = build_tools({tool: routing.tools[tool] for tool in agent.tools}, os.environ)
    request = ResponseRequest(
        model=agent.model,
        input=(user_item(text, ()),),
        instructions=agent.instructions or None,
        tools=tuple(one.item for one in tools.values()),
        extra=agent.options,
    )
    with build_telnyx(settings) as telnyx:
        outcome = telnyx.responses.create(request, CallWindow.starting_now(agent.call_timeout_s))
    if isinstance(outcome, Done):
        return outcome
    if isinstance(outcome, Refused):
        code = f", code {outcome.code}" if outcome.code else ""
        raise CommandError(f"Telnyx refused the call: status {outcome.status}{code}")
    raise CommandError(f"no answer: {outcome.reason}")
