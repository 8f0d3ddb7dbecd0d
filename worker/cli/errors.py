"""How commands fail: one line on stderr, a code for scripts, a traceback only for a bug.

0    done                          2    a setting, an option or an argument is wrong
1    it went wrong, or is down     130  Ctrl-C (143 SIGTERM)
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

from worker.domain.errors import DatabaseAwayError, WorkerError

FAILED: Final = 1
MISUSED: Final = 2
INTERRUPTED: Final = 130


class CommandError(Exception):
    """A command cannot go on; its text is for the person who typed it."""

    def __init__(self, message: str, *, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def errors_as_one_line() -> Iterator[None]:
    """Turn an error that a command raises on purpose into a line and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except (CommandError, WorkerError) as error:
        away = isinstance(error, DatabaseAwayError)
        fix = ". Is it running, and is DATABASE_URL right?" if away else ""
        sys.stderr.write(f"worker: {error}{fix}\n")
        code = error.exit_code if isinstance(error, CommandError) else FAILED
        raise typer.Exit(code) from None
