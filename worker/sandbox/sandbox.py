"""The sandbox: Postgres, Redis and the simulator of Telnyx, kept in one folder.

Promises: it starts whole or not at all, and after `stop`, a failed start, or the death of this
process by any signal no server is left. The data stay; see folder.py for the files.
"""

import secrets
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from worker.sandbox.folder import held, namespace_of, write_private
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.server import EmbeddedServer, SandboxError, log_tail, make_private, size_of

_SIMULATOR_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxUrls:
    """What was embedded, for the banner and for the environment; None = that part was not."""

    directory: Path
    namespace: str
    database_url: str | None = None
    broker_url: str | None = field(default=None, repr=False)
    telnyx_base_url: str | None = None
    telnyx_api_key: str | None = field(default=None, repr=False)
    redis_version: str | None = None
    beside: Mapping[str, str] = field(default_factory=dict)
    """Further settings of the workers here."""

    def as_env(self) -> dict[str, str]:
        """Name the settings that lead a worker here."""
        values = {
            "DATABASE_URL": self.database_url,
            "DATABASE_PREPARE": "true" if self.database_url else None,
            "BROKER_URL": self.broker_url,
            "TELNYX_BASE_URL": self.telnyx_base_url,
            "TELNYX_API_KEY": self.telnyx_api_key,
            "NAMESPACE": self.namespace,
        }
        found = {name: value for name, value in values.items() if value is not None}
        return {**found, **self.beside}


class SimulatorProcess(EmbeddedServer):
    """The simulator of Telnyx as a child, on a free port.

    `options`: further arguments of its command line.
    """

    name = "the simulator of Telnyx"

    def __init__(
        self,
        data_dir: Path,
        *,
        log: Path,
        options: tuple[str, ...] = (),
        keep_open: tuple[int, ...] = (),
    ) -> None:
        super().__init__(data_dir, log=log, keep_open=keep_open)
        self._options = options
        self._port_file = data_dir.with_suffix(".port")
        self._written_bytes = 0
        self.api_key = f"KEY-{secrets.token_hex(16)}"
        """Also of the controls. Random, because every user of this machine can reach the port."""

    @property
    def base_url(self) -> str:
        """The URL in place of https://api.telnyx.com/v2."""
        return f"http://127.0.0.1:{self._port_file.read_text().strip()}/v2"

    def start(self) -> None:
        """Start it without waiting: Python and its libraries take a while."""
        make_private(self._data_dir)
        self._port_file.unlink(missing_ok=True)
        self._written_bytes = size_of(self._log)
        # Not as an argument: those are visible in the list of processes.
        write_private(self._data_dir / "key", self.api_key)
        self._child = self._spawn(
            [
                *(sys.executable, "-m", "worker", "sim", "--port", "0"),
                *("--port-file", self._port_file, "--log", self._data_dir / "telnyx.jsonl"),
                *("--key-file", self._data_dir / "key"),
                *self._options,
            ]
        )

    def wait_ready(self) -> None:
        """Return when it listens."""
        if self._child is None or not self._child.wait_until(
            lambda: size_of(self._port_file) > 0, _SIMULATOR_TIMEOUT_S
        ):
            said = log_tail(self._log, self._written_bytes)
            raise SandboxError(f"{self.name} did not start:\n{said}")

    def stop(self) -> None:
        """End it; its state stays."""
        super().stop()
        self._port_file.unlink(missing_ok=True)


class Sandbox:
    """Starts the parts asked for on entry and stops them on exit.

    `simulator_options`: further arguments of the simulator's command line. `beside`: further
    settings of workers here. Raises SandboxError if a part does not start or another process has
    the folder.
    """

    def __init__(
        self,
        directory: Path,
        *,
        postgres: bool = True,
        redis: bool = True,
        simulator: bool = True,
        simulator_options: tuple[str, ...] = (),
        beside: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self._simulator_options = simulator_options
        self._beside = beside or {}
        self._wanted = {"postgres": postgres, "redis": redis, "simulator": simulator}
        self.postgres: EmbeddedPostgres | None = None
        self.redis: EmbeddedRedis | None = None
        self.simulator: SimulatorProcess | None = None
        self._stack = ExitStack()
        self._urls: SandboxUrls | None = None

    @property
    def urls(self) -> SandboxUrls:
        """Where everything is, while it runs."""
        if self._urls is None:
            raise SandboxError("the sandbox is not running")
        return self._urls

    def start(self) -> None:
        """Take the folder, start the parts, write the env file; all of it or nothing."""
        with ExitStack() as stack:
            self._start_on(stack)
            self._stack = stack.pop_all()

    def stop(self) -> None:
        """Stop the parts; the data stay."""
        self._urls = None
        self._stack.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_on(self, stack: ExitStack) -> None:
        logs = self.directory / "logs"
        make_private(logs)
        keep_open = (stack.enter_context(held(self.directory)),)
        env_file = self.directory / "env"
        # A holder that was killed has left its own.
        env_file.unlink(missing_ok=True)
        if self._wanted["simulator"]:
            self.simulator = SimulatorProcess(
                self.directory / "simulator",
                log=logs / "simulator.log",
                options=self._simulator_options,
                keep_open=keep_open,
            )
            stack.callback(self.simulator.stop)
            self.simulator.start()
        if self._wanted["postgres"]:
            self.postgres = EmbeddedPostgres(
                self.directory / "postgres", log=logs / "postgres.log", keep_open=keep_open
            )
            stack.enter_context(self.postgres)
        if self._wanted["redis"]:
            self.redis = EmbeddedRedis(
                self.directory / "redis", log=logs / "redis.log", keep_open=keep_open
            )
            stack.enter_context(self.redis)
        if self.simulator is not None:
            self.simulator.wait_ready()
        self._urls = self._describe()
        stack.callback(env_file.unlink, missing_ok=True)
        env = self._urls.as_env()
        write_private(env_file, "".join(f"{name}={value}\n" for name, value in env.items()))

    def _describe(self) -> SandboxUrls:
        return SandboxUrls(
            directory=self.directory,
            beside=self._beside,
            namespace=namespace_of(self.directory),
            database_url=self.postgres.url if self.postgres else None,
            broker_url=self.redis.url if self.redis else None,
            redis_version=self.redis.version if self.redis else None,
            telnyx_base_url=self.simulator.base_url if self.simulator else None,
            telnyx_api_key=self.simulator.api_key if self.simulator else None,
        )
