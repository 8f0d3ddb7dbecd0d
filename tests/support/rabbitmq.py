"""A RabbitMQ of the test's own."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.support.processes import eventually
from worker.domain.errors import BrokerAwayError
from worker.queue.waiting import rabbitmq_version

_DEBIAN = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Behind Debian's wrapper, which makes root another user, without the environment."""


@contextmanager
def running_rabbitmq(folder: Path) -> Iterator[str]:
    """Give its URL. Its name server is its own too."""
    server = str(_DEBIAN) if _DEBIAN.exists() else "rabbitmq-server"
    port, names, peers = (_free_port() for _ in range(3))
    env = os.environ | {
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_DIST_PORT": str(peers),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        # Erlang's idle threads would spin, on cores that the other tests need.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
    }
    url = f"amqp://guest:guest@127.0.0.1:{port}//"
    with (folder / "output").open("wb") as output, ExitStack() as stack:
        for command in (["epmd"], [server]):
            child = subprocess.Popen(command, env=env, stdout=output, stderr=output)
            stack.callback(_stop, child)
        eventually(lambda: _answers(url), timeout_s=60)
        yield url


def _answers(url: str) -> bool:
    with suppress(BrokerAwayError):
        return bool(rabbitmq_version(url))
    return False


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    child.wait(30)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
