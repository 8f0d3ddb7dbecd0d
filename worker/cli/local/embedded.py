"""Embeds the servers that are not configured; the only way from the commands to the sandbox.

The sandbox is imported when a server is embedded, never otherwise: production does not install its
packages.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Final, Self

from worker.cli import migrations
from worker.cli.errors import MISUSED, CommandError
from worker.cli.settings import Need
from worker.config.settings import is_configured, sandbox_dir

_SIMULATOR: Final = (
    *("--latency", "0.3", "--switch", "latency_sigma=0.4"),
    *("--switch", "show_prefix=false"),
)
"""Answers that look like a model's and take as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedServers:
    """Which servers are embedded."""

    postgres: bool = True
    redis: bool = True
    simulator: bool = True

    @classmethod
    def not_configured(cls) -> Self:
        """Embed the servers that the environment does not name; an empty variable names none."""
        return cls(
            postgres=not is_configured("DATABASE_URL"),
            redis=not is_configured("BROKER_URL"),
            simulator=not is_configured("TELNYX_API_KEY"),
        )

    def __bool__(self) -> bool:
        """Whether any is."""
        return self.postgres or self.redis or self.simulator

    def configured(self) -> tuple[Need, ...]:
        """Return the settings that the environment has to provide."""
        named: dict[Need, bool] = {
            "database_url": self.postgres,
            "broker_url": self.redis,
            "telnyx_api_key": self.simulator,
            "namespace": bool(self) and not os.environ.get("NAMESPACE"),
        }
        return tuple(name for name, is_embedded in named.items() if not is_embedded)


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
def embedded(servers: EmbeddedServers) -> Iterator[None]:
    """Run these servers, point our environment at them, migrate the embedded database.

    Raises `CommandError` if a server does not start.
    """
    try:
        from worker.sandbox.sandbox import Sandbox  # noqa: PLC0415 - see above
        from worker.sandbox.server import SandboxError  # noqa: PLC0415
    except ImportError as error:
        raise CommandError(
            f"{error.name} is not installed: install the extra `worker[sandbox]`, or set "
            "DATABASE_URL, BROKER_URL and TELNYX_API_KEY",
            exit_code=MISUSED,
        ) from None
    sandbox = Sandbox(sandbox_dir(), **asdict(servers), simulator_options=_SIMULATOR)
    try:
        sandbox.start()
    except (SandboxError, ChildProcessError) as error:
        raise CommandError(str(error)) from error
    try:
        given = sandbox.urls.as_env()
        if os.environ.get("NAMESPACE"):
            del given["NAMESPACE"]
        os.environ.update(given)
        if sandbox.urls.database_url is not None:
            migrations.upgrade(sandbox.urls.database_url)
        yield
    finally:
        sandbox.stop()
