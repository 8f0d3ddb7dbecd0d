"""Where Prometheus fetches a process's metrics: a small HTTP server, and a file that names it.

The file is for Prometheus's `file_sd`: one for each process, which goes with it. What a process
that was killed left behind is removed by the next one of the same host.
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
    """Serves one registry; a port that is taken costs the metrics, never the worker."""

    def __init__(
        self, registry: Collector, *, host: str, port: int, files: Path | None = None
    ) -> None:
        """`port` 0 = any free one. `files` None = no file."""
        self._registry = registry
        self._address = (host, port)
        self._files = files
        self._file: Path | None = None
        self._serving = ExitStack()
        self.port: int | None = None
        """Where it serves; None = it does not."""

    def start(self) -> bool:
        """Serve from now on, and say where; False = it could not be."""
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
            self._announce(self._files)
        return True

    def stop(self) -> None:
        """Hang up and remove the file."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            self._file = None
        self._serving.close()
        self.port = None

    def _announce(self, folder: Path) -> None:
        try:
            self._file = _write(folder, self.port)
        except OSError as error:
            log.error("metrics.announce_failed", error=type(error).__name__)


def _write(folder: Path, port: int | None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    _forget_dead(folder, host)
    target = [{"targets": [f"{host}:{port}"], "labels": {"job": "worker"}}]
    file = folder / f"{_PREFIX}{host}-{os.getpid()}.json"
    draft = file.with_suffix(".new")  # Prometheus must not read half of it
    draft.write_text(json.dumps(target))
    return draft.replace(file)


def _forget_dead(folder: Path, host: str) -> None:
    """Remove the files of this host's processes that are gone."""
    for file in folder.glob(f"{_PREFIX}*.json"):
        # Not by the pattern: that of the host `app` fits files of the host `app-2`.
        of_host, _, pid = file.stem.rpartition("-")
        if of_host == f"{_PREFIX}{host}" and pid.isdigit() and not _is_there(int(pid)):
            file.unlink(missing_ok=True)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
