"""The processes that commands run beside themselves: a Celery worker, and Flower.

Each has a session of its own, so Ctrl-C in the terminal reaches the command alone, and it says when
they stop; and each dies with the command (see die_with_parent.py).
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Self

from worker.cli.errors import MISUSED, CommandError
from worker.config.settings import secret_from_file

WARM_STOP_S: Final = 100.0
"""For the replies in flight: a call may take 75 s, and settling it some more."""
COLD_STOP_S: Final = 3.0
_TIED: Final = Path(__file__).with_name("die_with_parent.py")


class Child:
    """A Python module run as a program. `log` None = it writes where we do.

    Start it in the main thread: the child dies with the thread that started it.
    """

    def __init__(self, module: str, *arguments: str, env: dict[str, str], log: Path | None) -> None:
        with ExitStack() as stack:
            output: IO[bytes] | None = stack.enter_context(log.open("ab")) if log else None
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                [
                    *(sys.executable, "-I", "-S", str(_TIED), str(os.getpid())),
                    *(sys.executable, "-m", module, *arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative = the signal that ended it."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing where it has ended."""
        self._process.send_signal(number)

    def ends_within(self, timeout_s: float) -> bool:
        """Wait for its end; False when it still runs."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, timeout_s: float) -> None:
        """Ask, wait, then kill; it is gone on return."""
        self.send(signal.SIGTERM)
        if not self.ends_within(timeout_s):
            self.send(signal.SIGKILL)
            self._process.wait()


def start_worker(*, log: Path | None) -> Child:
    """Start a Celery worker with our environment."""
    name = f"worker-{secrets.token_hex(3)}@%h"
    quick = ("--without-gossip", "--without-mingle")  # a second less; nothing needs them
    arguments = ("-A", "worker", "worker", *quick, "--hostname", name)
    env = {"PIN_TO_CORE": "true", **os.environ}
    return Child("celery", *arguments, env=env, log=log)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerAt:
    """Where Flower listens and who may look; port 0 = 5555, or any free one."""

    user: str = "worker"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(9), repr=False)
    generated: bool = True
    """Whether the password was made up here; one that was given is not shown."""
    host: str = "127.0.0.1"
    port: int = 0

    @classmethod
    def chosen(cls, port: int) -> Self:
        """Take user and password from FLOWER_BASIC_AUTH or its file, where set, and a port."""
        try:
            auth = secret_from_file("FLOWER_BASIC_AUTH") or os.environ.get("FLOWER_BASIC_AUTH", "")
        except ValueError as error:
            raise CommandError(f"FLOWER_BASIC_AUTH: {error}", exit_code=MISUSED) from None
        user, colon, password = auth.partition(":")
        port = port or free_port(5555)
        if colon:
            return cls(user=user, password=password, generated=False, port=port)
        return cls(port=port)


def start_flower(at: FlowerAt, *, log: Path | None) -> Child:
    """Start Flower, to look only: FLOWER_READ_ONLY=false gives it buttons that stop workers.

    What is secret goes by the environment: others can read command lines.
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
    return Child("celery", "-A", "worker", "-q", "flower", env=env, log=log)


def free_port(wanted: int) -> int:
    """Give the wanted port where nobody has it, else one that is free now."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port is free")
