"""systemd itself reads the units."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.databases import ROOT
from tests.support.programs import are_installed

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


@pytest.mark.skipif(not are_installed("systemd-analyze"), reason="systemd is not here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        here = str(Path(sys.executable).parent)
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/worker/.venv/bin", here))
    said = subprocess.run(
        ["systemd-analyze", "verify", *tmp_path.iterdir()],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in said.stderr.splitlines() if str(tmp_path) in line]
    assert (said.returncode, ours) == (0, []), said.stderr
