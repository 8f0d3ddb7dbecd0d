"""Record the tutorial's demo as the picture docs/tutorial/images/demo.svg, from a real run.

    python -m tests.support.recording

The picture shows each line when it was printed; viewers without animations show all of them.
"""

import io
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.support.cli import bare_env
from tests.support.databases import ROOT

PICTURE = ROOT / "docs/tutorial/images/demo.svg"
COMMAND = "worker demo"
_COLUMNS = 92
_LONGEST_PAUSE_S = 2.0
_STYLES = {"      ": "cyan", "✓": "green"}
_FONTS = r"(?s)@font-face \{.*?\n    \}"
_ENDS = r'<text class="[^"]*" x="[\d.]+" y="[\d.]+" textLength="12.2" clip-path="[^"]*">\n</text>'
_LINE = r'clip-path="url\(#demo-line-(\d+)\)"'

Printed = tuple[float, str]
"""The second of a line, and its text."""


def run() -> list[Printed]:
    """Run the demo in an empty folder."""
    program = Path(sys.executable).with_name("worker")
    lines = [(0.0, f"$ {COMMAND}")]
    with tempfile.TemporaryDirectory() as folder:
        # As in the tutorial: the environment is in the folder.
        Path(folder).chmod(0o755)
        (Path(folder) / ".venv").symlink_to(program.parent.parent)
        process = subprocess.Popen(
            [".venv/bin/worker", *COMMAND.split()[1:]],
            cwd=folder,
            env=bare_env(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        last = time.monotonic()
        for line in process.stdout:
            now = time.monotonic()
            lines.append((lines[-1][0] + min(now - last, _LONGEST_PAUSE_S), line.rstrip("\n")))
            last = now
        assert process.wait() == 0
    return lines


def drawn(printed: Sequence[Printed]) -> str:
    """Draw the lines in the window of a terminal."""
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True)
    seconds = []
    for second, line in printed:
        style = next((it for start, it in _STYLES.items() if line.startswith(start)), "")
        for part in Text(line, style).wrap(console, _COLUMNS) or [Text()]:
            console.print(part, highlight=False)
            seconds.append(second)
    picture = re.sub(
        _ENDS, "", re.sub(_FONTS, "", console.export_svg(title=COMMAND, unique_id="demo"))
    )
    picture = picture.replace(
        "</style>",
        ".demo-matrix text { animation: print 1ms backwards }\n"
        "    @keyframes print { from { opacity: 0 } }\n    </style>",
        1,
    )
    timed = re.sub(
        _LINE, lambda it: f'{it[0]} style="animation-delay: {seconds[int(it[1])]:.1f}s"', picture
    )
    return "".join(f"{line.rstrip()}\n" for line in timed.splitlines() if line.strip())


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(drawn(run()))
