"""The processes that commands run beside themselves: a Celery worker, and Flower.

Such a child dies with the command. Ctrl-C in the terminal does not reach it: the command decides
when it stops.
"""

import os
import secrets
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from worker.cli.errors import MISUSED, CommandError
from worker.config.settings import secret_from_file
from worker.net.child_process import ChildProcess

WARM_STOP_S: Final = 100.0
"""Time for the replies in flight: a call may take 75 s, and settling it some more."""
COLD_STOP_S: Final = 3.0
_CELERY: Final = (sys.executable, "-m", "celery", "-A", "worker")


def start_worker(*, log: Path | None) -> ChildProcess:
    """Start a Celery worker with our environment."""
    name = f"worker-{secrets.token_hex(3)}@%h"
    # Nothing needs gossip and mingle, and without them the start takes a second less.
    quick = ("--without-gossip", "--without-mingle")
    arguments = ("worker", *quick, "--hostname", name)
    env = {"PIN_TO_CORE": "true", **os.environ}
    return ChildProcess([*_CELERY, *arguments], env=env, log=log)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerAt:
    """Where Flower listens and who may look; port 0 = 5555, or any free one."""

    user: str = "worker"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(9), repr=False)
    generated: bool = True
    """Whether the password was generated here; a configured one is not shown."""
    host: str = "127.0.0.1"
    port: int = 0

    @classmethod
    def chosen(cls, port: int) -> Self:
        """Take user and password from FLOWER_BASIC_AUTH or its file, if set, and a port."""
        try:
            auth = secret_from_file("FLOWER_BASIC_AUTH") or os.environ.get("FLOWER_BASIC_AUTH", "")
        except ValueError as error:
            raise CommandError(f"FLOWER_BASIC_AUTH: {error}", exit_code=MISUSED) from None
        user, colon, password = auth.partition(":")
        port = port or free_port(5555)
        if colon:
            return cls(user=user, password=password, generated=False, port=port)
        return cls(port=port)


def start_flower(at: FlowerAt, *, log: Path | None) -> ChildProcess:
    """Start Flower, read-only: FLOWER_READ_ONLY=false gives it buttons that stop workers.

    Secrets go by the environment: other users of the machine can read command lines.
    """
    env = (
        {"FLOWER_READ_ONLY": "true"}
        | dict(os.environ)
        | {
            "FLOWER_ADDRESS": at.host,
            "FLOWER_PORT": str(at.port),
            "FLOWER_LOGGING": "error",
        }
    )
    if at.generated:
        env.pop("FLOWER_BASIC_AUTH_FILE", None)
        env["FLOWER_BASIC_AUTH"] = f"{at.user}:{at.password}"
    return ChildProcess([*_CELERY, "-q", "flower"], env=env, log=log)


def free_port(wanted: int) -> int:
    """Return the wanted port if it is free, else another free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port is free")
