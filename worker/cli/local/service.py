"""A running service for `chat` and `demo`: embedded servers, and processes beside the command.

Such a child, a Celery worker or Flower, dies with the command. Ctrl-C in the terminal does not
reach it: the command decides when it stops. The sandbox is imported when a server is embedded,
never otherwise: production does not install its packages.
"""

import os
import secrets
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypeVar

from worker.bootstrap.reports import open_database
from worker.cli import migrations, revision
from worker.cli.console import err, print_line
from worker.cli.errors import CommandError
from worker.cli.local.gateway import in_sandbox, start_gateway, switches
from worker.cli.local.mail import mails_to_files
from worker.config.settings import Need, Settings, is_configured, sandbox_dir, secret, settings_for
from worker.net.child_process import ChildProcess
from worker.store.reports.status import StatusStore

WARM_STOP_S: Final = 100.0
"""Time for the replies in flight: a call may take 75 s, and settling it some more."""
COLD_STOP_S: Final = 3.0
_CELERY: Final = (sys.executable, "-m", "celery", "-A", "worker")
_WORKER_TIMEOUT_S: Final = 60.0
_OTHERS_TIMEOUT_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.05
_Found = TypeVar("_Found")
_SIMULATOR: Final = (
    *("--latency", "0.3", "--switch", "latency_sigma=0.4"),
    *("--switch", "show_prefix=false"),
)
"""Answers that look like a model's and take as long."""

SERVERS: Final[Mapping[str, Need]] = {
    "postgres": "database_url",
    "redis": "broker_url",
    "simulator": "telnyx_api_key",
}
"""The servers that can be embedded, each with the setting that names a configured one."""

TRY_IT: Final = "send --channel web --user ann --text Hello --wait"
"""A command with a reply, for a service that has just started."""


def as_typed() -> str:
    """Return what the user's other shells take for `worker`: the name, or a path to it.

    Our own environment is on PATH here alone, if it was activated or `uv run` has put it there.
    """
    program = Path(sys.argv[0]).absolute()
    if program.name != "worker":
        return f"{shlex.quote(sys.executable)} -m worker"
    ours = str(Path(sys.prefix, "bin")) if sys.prefix != sys.base_prefix else None
    path = os.pathsep.join(one for one in os.get_exec_path() if one != ours)
    found = shutil.which("worker", path=path)
    if found is not None and program.samefile(found):
        return "worker"
    here = Path.cwd()
    return shlex.quote(str(program.relative_to(here) if here in program.parents else program))


def not_configured() -> frozenset[str]:
    """Return the servers that the environment does not name; an empty variable names none."""
    return frozenset(one for one, need in SERVERS.items() if not is_configured(need.upper()))


def needs_beside(servers: Collection[str]) -> tuple[Need, ...]:
    """Return the settings that the environment has to provide beside these embedded servers."""
    needs = tuple(need for one, need in SERVERS.items() if one not in servers)
    return needs if servers and not os.environ.get("NAMESPACE") else (*needs, "namespace")


def attached() -> bool:
    """Point our environment at the sandbox that runs in this folder; False if none does."""
    if not (sandbox_dir() / "lock").exists():
        return False
    from worker.sandbox.folder import running_sandbox  # noqa: PLC0415 - see above

    found = running_sandbox(sandbox_dir())
    for name in found:
        os.environ.pop(f"{name}_FILE", None)
    os.environ.update(found)
    return bool(found)


@contextmanager
def embedded(servers: Collection[str]) -> Iterator[str | None]:
    """Run these servers, point our environment at them, migrate the embedded database.

    Yields the version of the embedded Redis: the wheel's is older than a system's. Raises
    `CommandError` if a server does not start.
    """
    from worker.sandbox.sandbox import Sandbox  # noqa: PLC0415 - see above
    from worker.sandbox.server import SandboxError  # noqa: PLC0415

    wanted = {one: one in servers for one in SERVERS}
    beside = in_sandbox(sandbox_dir(), free_port(0)) if "simulator" in servers else {}
    agents_file = beside.get("AGENTS_FILE") or settings_for().agents_file
    if agents_file:
        # A second terminal must try the same agents, whatever its folder.
        beside["AGENTS_FILE"] = str(Path(agents_file).absolute())
    with ExitStack() as stack:
        beside |= stack.enter_context(mails_to_files(agents_file and Path(agents_file)))
        sandbox = Sandbox(
            sandbox_dir(),
            **wanted,
            simulator_options=(*_SIMULATOR, *switches(beside)),
            beside=beside,
        )
        try:
            stack.enter_context(sandbox)
        except (SandboxError, ChildProcessError) as error:
            raise CommandError(str(error)) from error
        given = sandbox.urls.as_env()
        if os.environ.get("NAMESPACE"):
            del given["NAMESPACE"]
        os.environ.update(given)
        if sandbox.urls.database_url is not None:
            migrations.upgrade(sandbox.urls.database_url)
        yield sandbox.urls.redis_version


@contextmanager
def service(servers: Collection[str]) -> Iterator[Settings]:
    """Return the settings of a running service with at least one worker.

    `servers` are embedded if no sandbox runs in this folder; without any, the configured service is
    used.
    """
    with ExitStack() as stack:
        with err.status("starting the service (the first time takes a few seconds more) …"):
            if not servers or attached():
                settings = settings_for("database_url", "broker_url")
                _await_any_worker(settings.database_url)
            else:
                stack.enter_context(embedded(servers))
                settings = settings_for("database_url", "broker_url")
                revision.require_newest(settings.database_url)
                logs = sandbox_dir() / "logs"
                wait = start_gateway(settings, stack, log=logs / "gateway.log")
                worker = start_worker(log=logs / "worker.log")
                stack.callback(worker.stop, WARM_STOP_S)
                await_worker(settings.database_url, worker, logs / "worker.log")
                wait()
        yield settings


def await_worker(database_url: str, worker: ChildProcess, log: Path | None) -> None:
    """Return when it has its first heartbeat. Raises `CommandError` if it ends instead."""
    with open_database(database_url) as database:
        status = StatusStore(database)
        if not worker.wait_until(
            lambda: worker.pid in {one.pid for one in status.workers()}, _WORKER_TIMEOUT_S
        ):
            raise CommandError("the worker did not start" + (f": see {log}" if log else ""))


def _await_any_worker(database_url: str) -> None:
    """Return when one is alive: somebody may have started the service a moment ago."""
    with open_database(database_url) as database:
        status = StatusStore(database)
        if not until(lambda: status.revision() and status.workers(), _OTHERS_TIMEOUT_S):
            raise CommandError(
                "no worker is alive: `worker up` starts one, `worker status` shows more"
            )


def until(look: Callable[[], _Found], timeout_s: float) -> _Found:
    """Look until something is found; return what the last look has found."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    return found


def start_worker(*, log: Path | None, env: Mapping[str, str] = os.environ) -> ChildProcess:
    """Start a Celery worker."""
    name = f"worker-{secrets.token_hex(3)}@%h"
    # Nothing needs gossip and mingle, and without them the start takes a second less.
    arguments = ("worker", "--without-gossip", "--without-mingle", "--hostname", name)
    return ChildProcess([*_CELERY, *arguments], env={"PIN_TO_CORE": "true", **env}, log=log)


def stop_worker(worker: ChildProcess, stops: Sequence[int]) -> None:
    """Let the worker finish its replies, until the second of `stops` arrives."""
    worker.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + WARM_STOP_S
    while not worker.wait(_LOOK_EVERY_S):
        if len(stops) > 1 or time.monotonic() > deadline:
            print_line("stopping at once; what was in flight is taken up at the next start")
            worker.send_signal(signal.SIGQUIT)
            if not worker.wait(COLD_STOP_S):
                worker.send_signal(signal.SIGKILL)
            return


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerAt:
    """The port of Flower on this machine, and who may look."""

    user: str
    password: str = field(repr=False)
    generated: bool
    """Whether the password was generated here; a configured one is not shown."""
    port: int

    @classmethod
    def chosen(cls, port: int) -> Self:
        """Take user and password from FLOWER_BASIC_AUTH or its file; 0 = 5555, or a free port."""
        auth = secret("FLOWER_BASIC_AUTH") or ""
        generated = ":" not in auth
        if generated:
            auth = f"worker:{secrets.token_urlsafe(9)}"
        user, _, password = auth.partition(":")
        port = port or free_port(5555)
        return cls(user=user, password=password, generated=generated, port=port)


def start_flower(at: FlowerAt, stack: ExitStack) -> ChildProcess:
    """Start Flower, read-only: FLOWER_READ_ONLY=false gives it buttons that stop workers.

    Secrets go by the environment: other users of the machine can read command lines.
    """
    env = {
        **os.environ,
        "FLOWER_ADDRESS": "127.0.0.1",
        "FLOWER_PORT": str(at.port),
        "FLOWER_LOGGING": "error",
    }
    if at.generated:
        env.pop("FLOWER_BASIC_AUTH_FILE", None)
        env["FLOWER_BASIC_AUTH"] = f"{at.user}:{at.password}"
    child = ChildProcess([*_CELERY, "-q", "flower"], env=env, log=None)
    stack.callback(child.stop, COLD_STOP_S)
    return child


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
