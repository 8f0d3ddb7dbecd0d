"""An SMTP server to try things with: each mail that it takes becomes a file, and goes nowhere."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from worker.sandbox.server import make_private


@dataclass(frozen=True, slots=True)
class _Files:
    """What aiosmtpd hands mails to, one after the other."""

    folder: Path

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Keep a mail: 0001.eml is the first."""
        number = 1 + len(list(self.folder.glob("*.eml")))
        file = self.folder / f"{number:04}.eml"
        half_written = file.with_suffix(".new")
        content = envelope.content
        assert isinstance(content, bytes)  # noqa: S101 - text only if aiosmtpd is asked for it
        half_written.write_bytes(content)
        half_written.replace(file)
        return "250 OK"


@contextmanager
def mail_sink(folder: Path) -> Iterator[str]:
    """Serve on this machine, on a thread of its own; yields the address for SMTP_URL."""
    make_private(folder)
    # Its own start connects to the port that it was given, so that cannot be 0.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(_Files(folder), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield f"smtp://127.0.0.1:{port}?plain=true"
    finally:
        controller.stop()
