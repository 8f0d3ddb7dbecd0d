"""Tools in Python, in processes of their own."""

import subprocess
import sys
from pathlib import Path

from tests.support.databases import ROOT


def test_a_stuck_run_does_not_keep_the_process_alive() -> None:
    program = """
import time
from tests.unit.turns.test_tools_python import run
print(run(lambda: time.sleep(60), timeout_s=0.05).state)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "unknown\n"


def test_a_module_that_fails_by_itself_names_only_the_type(tmp_path: Path) -> None:
    (tmp_path / "broken_tools.py").write_text("raise RuntimeError('SECRET')")
    program = """
from worker.domain.tools import ToolConfig
from worker.domain.errors import SettingsError
from worker.tools.build import build_tools
try:
    build_tools({"t": ToolConfig(name="t", function="broken_tools:f")}, {})
except SettingsError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(
        "AGENTS_FILE: tools.t: function: broken_tools cannot be imported (RuntimeError): install it"
    )
