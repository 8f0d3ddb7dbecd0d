"""`worker try-agent`: one call with the file's instructions, and nothing else."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import invoke
from worker.sandbox.simulator import Simulator, SimulatorConfig
from worker.sandbox.simulator.record.events import RequestReceived

AGENTS = """
[agents.default]
[agents.sales]
instructions = "Sell."
temperature = 0.5
tools = ["get_order"]
[tools.get_order]
url = "https://shop.invalid/order"
description = "Looks up an order."
parameters = { type = "object", properties = { order_id = { type = "integer" } } }
secret_env = "SHOP_KEY"
"""


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(SimulatorConfig(show_prefix=False)) as running:
        yield running


@pytest.fixture
def env(simulator: Simulator, tmp_path: Path) -> dict[str, str]:
    """No database and no broker: the command has nowhere to write to."""
    (tmp_path / "agents.toml").write_text(AGENTS)
    return {
        "TELNYX_BASE_URL": simulator.base_url,
        "TELNYX_API_KEY": simulator.api_key,
        "AGENTS_FILE": str(tmp_path / "agents.toml"),
        "SANDBOX_DIR": str(tmp_path / "none"),
        "SHOP_KEY": "whsec_" + "A" * 32,
    }


def test_it_asks_once_with_the_files_instructions_on_no_conversation(
    simulator: Simulator, env: dict[str, str]
) -> None:
    done = invoke("try-agent", "sales", "How much?", "--json", env=env)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["status"] == "completed"
    assert "How much?" in shown["text"]
    assert shown["input_tokens"] > 0 < shown["output_tokens"]
    (request,) = [one.event for one in simulator.log() if isinstance(one.event, RequestReceived)]
    assert request.endpoint == "responses"
    assert request.body["instructions"] == "Sell."
    assert request.body["temperature"] == 0.5
    assert "conversation" not in request.body
    assert [one["name"] for one in request.body["tools"]] == ["get_order"]


def test_the_tools_it_wanted_are_shown_and_not_run(env: dict[str, str]) -> None:
    done = invoke("try-agent", "sales", 'tool:get_order {"order_id": 42}', env=env)
    assert done.returncode == 0, done.stderr
    assert 'wanted  get_order {"order_id": 42}' in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["answer", "tokens", "wanted"]


def test_a_wrong_name_and_a_refusal_are_one_line(simulator: Simulator, env: dict[str, str]) -> None:
    missing = invoke("try-agent", "seles", "Hi", env=env)
    assert (missing.returncode, missing.stderr) == (
        2,
        "worker: there is no such agent: name one of default, sales\n",
    )
    refused = invoke("try-agent", "default", "Hi", env=env | {"TELNYX_API_KEY": "KEY-wrong"})
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith("worker: Telnyx refused the call: status 401")
