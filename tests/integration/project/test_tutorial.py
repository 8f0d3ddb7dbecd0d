"""The tutorial, word by word: its blocks of code in two terminals that have nothing else."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cli import bare_env, descendants
from tests.support.databases import ROOT
from tests.support.pages import blocks_of
from tests.support.processes import eventually, is_running, open_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # it fills an environment

BLOCKS = blocks_of((ROOT / "docs/tutorial/first-steps.md").read_text(), "sh")
UP = BLOCKS.index("worker up\n")
START_OVER = BLOCKS.index("rm -r .sandbox\n")


@dataclass(frozen=True)
class Terminal:
    """A shell that runs blocks and stops at the first that fails."""

    process: subprocess.Popen[bytes]
    output: Path

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def await_text(self, text: str) -> None:
        ended = self.process.poll
        assert eventually(lambda: text in self.text() or ended() is not None, timeout_s=240)
        assert text in self.text(), self.text()

    def await_end(self) -> None:
        assert self.process.wait(120) == 0, self.text()


@contextmanager
def terminal(home: Path, name: str, blocks: list[str], *, typed: str = "") -> Iterator[Terminal]:
    """Open one in the checkout, as the home folder's owner; `typed` is what the blocks read."""
    script, keyboard, output = (home / f"{name}.{end}" for end in ("sh", "in", "out"))
    script.write_text("\n".join(blocks))
    keyboard.write_text(typed)
    ours = ("VIRTUAL_ENV", "UV_", "PYTHONDONTWRITEBYTECODE", "WHEELS")
    kept = {one: value for one, value in bare_env().items() if not one.startswith(ours)}
    kept["PATH"] = os.pathsep.join(one for one in os.get_exec_path() if ".venv" not in one)
    with keyboard.open("rb") as stdin, output.open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-e", script],
            cwd=ROOT,
            env=kept | {"HOME": str(home)},
            stdin=stdin,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Terminal(process, output)
    finally:
        for pid in descendants(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()


def test_the_tutorial_word_by_word() -> None:
    first = [*BLOCKS[: UP + 1], *BLOCKS[START_OVER:]]
    with open_folder() as home, terminal(home, "first", first) as up:
        up.await_text("the service is up")
        up.await_text("  .venv/bin/worker chat\n")
        assert "accepted once, answered once" in up.text()
        chat = "Are you open?\n"
        with terminal(home, "second", BLOCKS[UP + 1 : START_OVER], typed=chat) as second:
            second.await_end()
            said = second.text()
        assert 'service> Thanks for writing! You said "Are you open?"' in said
        numbers = re.findall(r"(?m)^message (\d+): Thanks for writing!", said)
        assert len(numbers) == 2
        assert len(set(numbers)) == 1
        assert f"message {numbers[0]} of channel user" in said, "worker why"
        assert "healthy" in said
        assert said.count("order-1 | answered | Thanks") == 1
        with terminal(home, "third", [f"cd {home}/first-steps", *commands_in(up.text())]) as third:
            third.await_end()
        started = descendants(up.process.pid)
        os.killpg(up.process.pid, signal.SIGINT)
        up.await_end()
        assert not any(map(is_running, started))
        assert not (home / "first-steps/.sandbox").exists()


def commands_in(printed: str) -> list[str]:
    """Return what demo and banner print to be typed, but for the service that runs already."""
    found = re.findall(r"(?m)^  (\.venv/bin/worker .*)$", printed)
    assert {one.split()[1] for one in found} == {"chat", "up", "send", "status", "schema"}
    return [one for one in dict.fromkeys(found) if not one.endswith(" up")]
