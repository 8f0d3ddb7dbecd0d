"""`worker chat` on a terminal: the line is edited with readline."""

import os
import pty
import re
import select
import subprocess
import sys

CHAT = """
from worker.cli.local import conversation

class Nothing:
    open = ()

conversation.converse("you are you", lambda line: print(repr(line), flush=True), Nothing(), 60)
"""
LEFT, UP, END_OF_INPUT = b"\x1b[D", b"\x1b[A", b"\x04"


def read_until(terminal: int, wanted: str) -> str:
    """What the terminal shows until this is part of it."""
    shown = b""
    while re.search(wanted.encode(), shown) is None:
        assert select.select([terminal], [], [], 20)[0], shown
        shown += os.read(terminal, 4096)
    return shown.decode()


def test_a_line_is_edited_and_found_again() -> None:
    terminal, inner = pty.openpty()
    chat = subprocess.Popen(
        [sys.executable, "-c", CHAT],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env={**os.environ, "TERM": "xterm", "INPUTRC": "/dev/null"},
    )
    try:
        read_until(terminal, "you> ")
        os.write(terminal, b"hllo" + 3 * LEFT + b"e\r")
        read_until(terminal, "'hello'")
        os.write(terminal, UP + b"!\r")
        read_until(terminal, "'hello!'")
        os.write(terminal, END_OF_INPUT)
        assert chat.wait(20) == 0
    finally:
        chat.kill()
        chat.wait()
        os.close(terminal)
        os.close(inner)
