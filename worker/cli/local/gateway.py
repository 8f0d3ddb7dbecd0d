"""The gateway beside the worker, for `up`, `chat` and `demo`; in the sandbox Telnyx leads there.

Without AGENTS_FILE and without PUBLIC_URL, a sandbox with the simulated Telnyx has the channels
`sms` and `email`, each with a driver: phones and mails can be tried at once.
"""

import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from worker.cli.errors import CommandError
from worker.config.agents_file import load_agents
from worker.config.settings import Settings, is_configured
from worker.domain.ways_out import MailDelivery, TelnyxDelivery
from worker.net.child_process import ChildProcess

_PORT: Final = 8080
_START_S: Final = 60.0
_STOP_S: Final = 3.0
_CALLERS: Final = ("GATEWAY_TOKEN", "GATEWAY_SECRET")
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


def start_gateway(
    settings: Settings, stack: ExitStack, *, log: Path | None
) -> Callable[[], tuple[int, ChildProcess] | None]:
    """Start it if something arrives by it: Telnyx's webhooks or a producer's messages.

    Returns what waits until it listens, and tells its port; None = there is none. That raises
    `CommandError` if it ends instead.
    """
    ways = [one.delivery for one in load_agents(settings.agents_file)[0].channels.values()]
    if not any(map(_tells, ways)) and not any(map(is_configured, _CALLERS)):
        return lambda: None
    url = urlsplit(os.environ.get("PUBLIC_URL") or "")
    port = url.port if url.hostname == "127.0.0.1" and url.port else _PORT
    command = (sys.executable, "-m", "worker", "gateway", "--port", str(port))
    gateway = ChildProcess(command, env=os.environ, log=log)
    stack.callback(gateway.stop, _STOP_S)

    def wait() -> tuple[int, ChildProcess]:
        if not gateway.wait_until(lambda: _listens(port), _START_S):
            raise CommandError("the gateway did not start" + (f": see {log}" if log else ""))
        return port, gateway

    return wait


def _tells(way: object) -> bool:
    """Whether Telnyx has something to tell about this way out."""
    return isinstance(way, TelnyxDelivery) or (isinstance(way, MailDelivery) and way.telnyx)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
