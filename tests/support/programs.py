"""Programs that tests need and Python's packages do not bring: Debian's packages do."""

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
UV = shutil.which("uv") or str(ROOT / ".uv/bin/uv")
"""On PATH, or where the Makefile installs it."""
IS_CI = bool(os.environ.get("CI"))
"""There a test that cannot run is an error: `.ci/run` installs what they need."""


def are_installed(*names: str) -> bool:
    """Whether all of them are on PATH. In CI, raise when one is missing."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing and IS_CI:
        raise FileNotFoundError(f"not on PATH: {', '.join(missing)}")
    return not missing
