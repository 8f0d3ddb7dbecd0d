"""The command line before it reaches any server."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import invoke, worker
from worker.cli.local.service import as_typed, embedded
from worker.sandbox.folder import running_sandbox

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


def noted_environment(folder: Path) -> dict[str, str]:
    """What a shell has that has sourced the file `env` of an earlier `worker up`."""
    folder.mkdir(exist_ok=True)
    (folder / "namespace").write_text("7a1baa3e-b6bd-491e-8205-92f0209b27a9\n")
    return {
        "SANDBOX_DIR": str(folder),
        "DATABASE_URL": f"postgresql://postgres@/postgres?host={folder}/postgres",
        "BROKER_URL": "redis://:geheim@127.0.0.1:1/0",
        "TELNYX_API_KEY": "KEY-x",
        "NAMESPACE": "7a1baa3e-b6bd-491e-8205-92f0209b27a9",
    }


@pytest.mark.parametrize(
    "command",
    [("status",), ("up",), ("chat",), ("send", "--channel", "web", "--user", "a", "--text", "x")],
    ids=lambda command: command[0],
)
def test_the_environment_of_a_worker_up_that_has_ended_is_one_line_with_the_fix(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    said = invoke(*command, env=noted_environment(tmp_path))
    assert said.returncode == 2
    assert said.stderr == (
        f"worker: this shell has the addresses of an earlier `worker up` in {tmp_path}: run "
        "`unset DATABASE_URL BROKER_URL TELNYX_API_KEY NAMESPACE`; then commands here use the "
        "`worker up` that runs, and `worker up` starts one\n"
    )


def test_the_environment_of_the_worker_up_that_runs_is_taken(tmp_path: Path) -> None:
    env = noted_environment(tmp_path)
    running = tmp_path / "env"
    running.write_text(f"BROKER_URL={env['BROKER_URL']}\nNAMESPACE={env['NAMESPACE']}\n")
    send = ("send", "--channel", "web", "--user", "a", "--text", "x")
    # A DATABASE_URL that it does not embed is the user's own.
    assert invoke(*send, env=env).stderr.startswith("worker: Redis: ")
    running.write_text(running.read_text().replace(":1/0", ":2/0"))
    assert "an earlier `worker up`" in invoke(*send, env=env).stderr


def test_printed_commands_work_in_a_shell_without_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv, elsewhere = tmp_path / "my shop/.venv/bin", tmp_path / "bin"
    for folder in (venv, elsewhere):
        folder.mkdir(parents=True)
    program = venv / "worker"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setattr(sys, "prefix", str(venv.parent))
    # Activated: on PATH here, not in another terminal.
    monkeypatch.setenv("PATH", f"{venv}:{elsewhere}")
    assert as_typed() == f"'{program}'"
    monkeypatch.chdir(tmp_path / "my shop")
    assert as_typed() == ".venv/bin/worker"
    (elsewhere / "worker").symlink_to("/bin/true")
    assert as_typed() == ".venv/bin/worker"
    (elsewhere / "worker").unlink()
    (elsewhere / "worker").symlink_to(program)
    assert as_typed() == "worker"
    monkeypatch.setattr(sys, "argv", ["/x/worker/__main__.py"])
    assert as_typed() == f"{sys.executable} -m worker"


def test_a_second_terminal_finds_the_agents_file_of_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sandbox_dir: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").touch()
    for name, value in {
        "AGENTS_FILE": "mine.toml",
        "SANDBOX_DIR": str(sandbox_dir),
        "BROKER_URL": "",  # it is set, and undone with the others
        "NAMESPACE": "6f1d4a52-6f0f-4f0e-8a43-2f9f5f1f9b11",
    }.items():
        monkeypatch.setenv(name, value)
    with embedded({"redis"}):
        assert running_sandbox(sandbox_dir)["AGENTS_FILE"] == str(tmp_path / "mine.toml")
