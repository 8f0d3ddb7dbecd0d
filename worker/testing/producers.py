"""The pytest fixture `sandbox`: the whole service on this machine, to test a producer against.

    pytest_plugins = ["worker.testing"]    # in the conftest.py at the top of your tests

Promises: it starts once a session, with the first test that asks for it, and leaves nothing. Of
the settings in your environment its worker takes AGENTS_FILE alone.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import httpx
import pytest

from worker.cli.errors import CommandError
from worker.config.settings import Settings
from worker.sandbox.server import SandboxError


@dataclass(frozen=True, kw_only=True, repr=False)
class RunningService:
    """Embedded Postgres and Redis, a simulated Telnyx and one worker."""

    broker_url: str
    database_url: str
    env: Mapping[str, str]
    """The settings that lead a program of yours, or a command of ours, to these servers."""
    worker_log: Path

    def script(self, text: str, reply: str, *, count: int = 1) -> None:
        """Let the model answer `reply` to the next `count` messages that contain `text`."""
        order = {"text": text, "reply": reply, "count": count}
        httpx.post(
            self.env["TELNYX_BASE_URL"].removesuffix("/v2") + "/sim/scripts",
            json=order,
            headers={"Authorization": f"Bearer {self.env['TELNYX_API_KEY']}"},
            trust_env=False,
        ).raise_for_status()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[RunningService]:
    """Run the whole service on this machine, to test a producer against."""
    with ExitStack() as stack:
        try:
            service = stack.enter_context(running_service())
        except (CommandError, SandboxError, ChildProcessError) as error:
            fault = str(error)
        else:
            yield service
            return
    # Not in a handler: one line is all that is shown.
    pytest.fail(f"the fixture `sandbox` did not start: {fault}", pytrace=False)


@contextmanager
def running_service() -> Iterator[RunningService]:
    """Start the servers, migrate the database and start a worker; stop all of it afterwards."""
    # Imported here: a plugin is imported with every run, whatever tests it has.
    from worker.cli import migrations  # noqa: PLC0415
    from worker.cli.local import service  # noqa: PLC0415
    from worker.sandbox.sandbox import Sandbox  # noqa: PLC0415

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="worker-testing-")))
        # Started by root, Postgres runs as another user, who has to get in.
        folder.chmod(0o711)
        servers = Sandbox(folder, simulator_options=("--switch", "show_prefix=false"))
        urls = stack.enter_context(servers).urls
        assert urls.database_url is not None  # noqa: S101 - for the type: all parts were asked for
        assert urls.broker_url is not None  # noqa: S101
        migrations.upgrade(urls.database_url)
        log = folder / "logs" / "worker.log"
        worker = service.start_worker(log=log, env=_environment() | urls.as_env())
        stack.callback(worker.stop, service.COLD_STOP_S)
        try:
            service.await_worker(urls.database_url, worker, None)
        except CommandError as error:
            # Nobody can look into the log later: the folder goes with this error.
            last = log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise CommandError(f"{error}: {last}") from None
        yield RunningService(
            broker_url=urls.broker_url,
            database_url=urls.database_url,
            env=urls.as_env(),
            worker_log=log,
        )


def _environment() -> dict[str, str]:
    """Return the environment without settings of ours: they would lead elsewhere."""
    ours = {field.name.upper() for field in fields(Settings)} - {"AGENTS_FILE"}
    ours |= {f"{name}_FILE" for name in ours}
    return {name: value for name, value in os.environ.items() if name not in ours}
