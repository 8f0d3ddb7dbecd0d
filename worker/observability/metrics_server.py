"""Serves a process's metrics to Prometheus, and writes a file by which Prometheus finds it.

The file is for Prometheus's `file_sd`. Each process has one and removes it at its end; the file of
a killed process is removed by the next process on the same host.
"""

import json
import os
import socket
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from prometheus_client import start_http_server
from prometheus_client.registry import Collector

from worker.observability.logs import log
from worker.observability.metrics import REGISTRY

_PREFIX = "worker-"


@dataclass
class MetricsServer:
    """Serves one registry; if the port is taken, the worker runs without metrics."""

    registry: Collector = REGISTRY
    _: KW_ONLY
    # Prometheus runs on another host or in another container.
    host: str = "0.0.0.0"  # noqa: S104
    port: int | None
    """None = not to serve, 0 = any free port; once started the one in use, None if none is."""
    files: Path | None = None
    """The folder of the file; None = write no file."""
    _serving: ExitStack = field(default_factory=ExitStack, init=False)

    def start(self) -> bool:
        """Serve, log the port and write the file; return False if the port is taken."""
        if self.port is None:
            return False
        try:
            server, thread = start_http_server(self.port, self.host, self.registry)
        except OSError as error:
            log.error("metrics.serve_failed", port=self.port, error=type(error).__name__)
            self.port = None
            return False
        for ending in (thread.join, server.server_close, server.shutdown):
            self._serving.callback(ending)
        self.port = server.server_port
        log.info("metrics.served", port=self.port)
        if self.files is not None:
            try:
                file = _write(self.files, self.port)
            except OSError as error:
                log.error("metrics.announce_failed", error=type(error).__name__)
            else:
                # Removed before the port is free: Prometheus must not scrape a port that another
                # process may take.
                self._serving.callback(file.unlink, missing_ok=True)
        return True

    def stop(self) -> None:
        """Remove the file and stop serving."""
        self._serving.close()
        self.port = None


def _write(folder: Path, port: int | None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    # Those of processes of this host that have ended.
    for file in folder.glob(f"{_PREFIX}*.json"):
        # The pattern cannot name the host: `worker-app-*` also matches files of the host `app-2`.
        of_host, _, pid = file.stem.rpartition("-")
        if of_host == f"{_PREFIX}{host}" and pid.isdigit() and not _is_running(int(pid)):
            file.unlink(missing_ok=True)
    target = [{"targets": [f"{host}:{port}"], "labels": {"job": "worker"}}]
    file = folder / f"{_PREFIX}{host}-{os.getpid()}.json"
    # Written aside and renamed: Prometheus must not read half a file.
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(target))
    return draft.replace(file)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # It runs as another user.
    except PermissionError:
        return True
    return True
