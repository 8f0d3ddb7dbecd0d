"""`worker export`: everything held about one channel user, as one JSON document."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from worker.cli.console import warn
from worker.cli.errors import MISUSED, CommandError
from worker.cli.operators.context import an_operator, one_user


def run(who: str, out: Path | None) -> None:
    """Write it to a new file that only its owner may read; None = to stdout."""
    with an_operator() as operator:
        user_id = one_user(operator, who)
        pieces = operator.export(user_id)
        if out is None:
            sys.stdout.writelines(pieces)
            return
        try:
            _write(out, pieces)
        except FileExistsError:
            raise CommandError(f"--out: {out} is there already", exit_code=MISUSED) from None
        except OSError as error:
            raise CommandError(f"--out: {error.strerror}", exit_code=MISUSED) from None
    warn(f"channel user {user_id} is in {out}: it holds the texts of their messages")


def _write(out: Path, pieces: Iterator[str]) -> None:
    """Leave the complete document, or no file."""
    # O_EXCL follows no link that somebody has put there; 0600, for it holds personal data.
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - of a descriptor
            file.writelines(pieces)
    except BaseException:
        with suppress(OSError):
            out.unlink()
        raise
