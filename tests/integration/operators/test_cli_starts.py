"""The command line before it reaches any server."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import invoke, worker

COMMANDS = ("demo", "up", "chat", "send", "migrate", "status")


def test_help_names_every_command_and_its_groups(tmp_path: Path) -> None:
    said = invoke("--help", env={"SANDBOX_DIR": str(tmp_path)})
    assert said.returncode == 0
    for word in (*COMMANDS, "Start here", "Send messages", "Operate"):
        assert word in said.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str, tmp_path: Path) -> None:
    said = invoke(command, "--help", env={"SANDBOX_DIR": str(tmp_path)})
    assert said.returncode == 0
    assert f"Usage: worker {command}" in said.stdout


def test_help_loads_nothing_that_only_a_command_needs() -> None:
    code = (
        "import sys, worker.cli.app; "
        "print([m for m in ('celery', 'sqlalchemy', 'alembic', 'worker.sandbox') "
        "if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "settings", "named"),
    [
        (("status",), {}, "DATABASE_URL is not set"),
        (("migrate",), {"DATABASE_URL": "mysql://x"}, "DATABASE_URL: give postgresql://"),
        (("send", "--text", "x"), {}, "BROKER_URL is not set"),
        (("chat", "--channel", "NO"), {}, "channel: "),
        (("up",), {"LOG_LEVEL": "LOUD"}, "LOG_LEVEL: give DEBUG"),
        (("up",), {"AGENTS_FILE": "/nowhere.toml"}, "AGENTS_FILE: /nowhere.toml cannot be read"),
    ],
)
def test_a_bad_setting_or_option_is_one_line_that_names_it(
    arguments: tuple[str, ...], settings: dict[str, str], named: str, tmp_path: Path
) -> None:
    said = invoke(*arguments, env={"SANDBOX_DIR": str(tmp_path / "none"), **settings})
    assert said.returncode == 2
    assert said.stdout == ""
    assert said.stderr.startswith(f"worker: {named}")
    assert said.stderr.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_a_broker_that_is_away_is_one_line_without_its_password(tmp_path: Path) -> None:
    env = {"SANDBOX_DIR": str(tmp_path), "BROKER_URL": "redis://:geheim@127.0.0.1:1/0"}
    said = invoke("send", "--channel", "web", "--user", "a", "--text", "x", env=env)
    assert said.returncode == 1
    assert said.stderr.startswith("worker: Redis: ")
    assert said.stderr.count("\n") == 1
    assert "geheim" not in said.stderr


def test_the_process_exits_with_the_code_and_without_a_traceback(tmp_path: Path) -> None:
    said = worker("status", env={"SANDBOX_DIR": str(tmp_path)})
    assert said.returncode == 2
    assert said.stderr.startswith("worker: DATABASE_URL is not set")
    assert said.stderr.count("\n") == 1
