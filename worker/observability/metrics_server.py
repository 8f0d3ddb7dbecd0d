"""Serves a process's metrics to Prometheus, and writes a file by which Prometheus finds it.

The file is for Prometheus's `file_sd`. Each process has one and removes it at its end; the file of
a killed process is removed by the next process on the same host.
"""

import json
import os
import socket
from contextlib import ExitStack
from pathlib import Path

from prometheus_client import start_http_server
from prometheus_client.registry import Collector

from worker.observability.logs import log

_PREFIX = "worker-"


class MetricsServer:
    """Serves one registry; if the port is taken, the worker runs without metrics."""

    def __init__(
        self, registry: Collector, *, host: str, port: int, files: Path | None = None
    ) -> None:
        """`port` 0 = any free port. `files` None = write no file."""
        self._registry = registry
        self._address = (host, port)
        self._files = files
        self._file: Path | None = None
        self._serving = ExitStack()
        self.port: int | None = None
        """The port in use; None = not serving."""

    def start(self) -> bool:
        """Serve, log the port and write the file; return False if the port is taken."""
        host, port = self._address
        try:
            server, thread = start_http_server(port, host, self._registry)
        except OSError as error:
            log.error("metrics.serve_failed", port=port, error=type(error).__name__)
            return False
        for ending in (thread.join, server.server_close, server.shutdown):
            self._serving.callback(ending)
        self.port = server.server_port
        log.info("metrics.served", port=self.port)
        if self._files is not None:
            try:
                self._file = _write(self._files, self.port)
            except OSError as error:
                log.error("metrics.announce_failed", error=type(error).__name__)
        return True

    def stop(self) -> None:
        """Remove the file and stop serving."""
        # The file first: Prometheus must not scrape a port that another process may take.
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            self._file = None
        self._serving.close()
        self.port = None


def _write(folder: Path, port: int | None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    _remove_dead(folder, host)
    target = [{"targets": [f"{host}:{port}"], "labels": {"job": "worker"}}]
    file = folder / f"{_PREFIX}{host}-{os.getpid()}.json"
    # Written aside and renamed: Prometheus must not read half a file.
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(target))
    return draft.replace(file)


def _remove_dead(folder: Path, host: str) -> None:
    """Remove the files of processes of this host that have ended."""
    for file in folder.glob(f"{_PREFIX}*.json"):
        # The pattern cannot name the host: `worker-app-*` also matches files of the host `app-2`.
        of_host, _, pid = file.stem.rpartition("-")
        if of_host == f"{_PREFIX}{host}" and pid.isdigit() and not _is_running(int(pid)):
            file.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # It runs as another user.
    except PermissionError:
        return True
    return True
