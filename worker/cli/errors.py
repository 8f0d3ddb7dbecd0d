"""How commands fail: one line on stderr, a code for scripts, a traceback only for a bug.

0    done                          2    a setting, an option or an argument is wrong
1    it went wrong, or is down     130  Ctrl-C (143 SIGTERM)
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

from worker.domain.errors import DatabaseAwayError, SettingsError, WorkerError

FAILED: Final = 1
MISUSED: Final = 2
INTERRUPTED: Final = 130


class CommandError(Exception):
    """A command cannot go on; its text is for the person who typed it."""


class MisuseError(CommandError):
    """An option or an argument is wrong."""


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
        misused = isinstance(error, MisuseError | SettingsError)
        raise typer.Exit(MISUSED if misused else FAILED) from None
