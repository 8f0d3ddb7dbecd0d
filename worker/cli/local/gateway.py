"""The gateway beside the worker, for `up`, `chat` and `demo`; in the sandbox Telnyx leads there.

Without AGENTS_FILE and without PUBLIC_URL, a sandbox with the simulated Telnyx has the channels
`sms` and `email`, each with a driver: phones and mails can be tried at once.
"""

import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from worker.cli.errors import CommandError
from worker.domain.routing import Routing
from worker.domain.ways_out import MailDelivery, TelnyxDelivery
from worker.net.child_process import ChildProcess

PORT: Final = 8080
_TIMEOUT_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.05
# The profile is the simulator's: with one, a reply to nobody's number goes out as well.
_AGENTS: Final = """\
# Written by the sandbox, which AGENTS_FILE replaces.
[channels.sms]
driver = "telnyx"

[channels.sms.telnyx]
profile_id = "740572b6-099c-44a1-89b9-6c92163bc68d"

[channels.email]
driver = "smtp"

[channels.email.mail]
addresses = ["help@example.com"]
name = "Example Shop"
"""


def in_sandbox(folder: Path, port: int) -> dict[str, str]:
    """Return the settings that lead a simulated Telnyx to a gateway here; empty = others do."""
    if os.environ.get("PUBLIC_URL"):
        return {}
    given = {"PUBLIC_URL": f"http://127.0.0.1:{port}"}
    if not os.environ.get("AGENTS_FILE"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        agents = (folder / "agents.toml").absolute()
        agents.write_text(_AGENTS)
        given["AGENTS_FILE"] = str(agents)
    return given


def switches(given: Mapping[str, str]) -> tuple[str, ...]:
    """Return the arguments of a simulator that leads there."""
    url = given.get("PUBLIC_URL")
    return ("--switch", f"webhook_url={url}/telnyx/messaging") if url else ()


def is_wanted(routing: Routing) -> bool:
    """Return whether something arrives by a gateway: Telnyx's webhooks or a producer's messages."""
    return any(_tells(one.delivery) for one in routing.channels.values()) or any(
        os.environ.get(name) or os.environ.get(f"{name}_FILE")
        for name in ("GATEWAY_TOKEN", "GATEWAY_SECRET")
    )


def _tells(way: object) -> bool:
    """Whether Telnyx has something to tell about this way out."""
    return isinstance(way, TelnyxDelivery) or (isinstance(way, MailDelivery) and way.telnyx)


def start_gateway(port: int, *, log: Path | None) -> ChildProcess:
    """Start it without waiting."""
    command = (sys.executable, "-m", "worker", "gateway", "--port", str(port))
    return ChildProcess(command, env=os.environ, log=log)


def await_gateway(port: int, gateway: ChildProcess, log: Path | None) -> None:
    """Return when it listens. Raises `CommandError` if it ends instead."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            if gateway.exit_code is not None or time.monotonic() > deadline:
                raise CommandError(
                    "the gateway did not start" + (f": see {log}" if log else "")
                ) from None
            time.sleep(_LOOK_EVERY_S)
        else:
            return


def port_here(port: int) -> int:
    """Return the port of PUBLIC_URL if that is this machine, else the given one."""
    url = urlsplit(os.environ.get("PUBLIC_URL") or "")
    return url.port if url.hostname == "127.0.0.1" and url.port else port
