"""A real Prometheus, Debian's, that scrapes a real worker and `worker metrics` each second."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.databases import ROOT
from tests.support.watched import Watched
from worker.cli.local.service import free_port
from worker.net.child_process import ChildProcess

RULES = ROOT / "deploy" / "prometheus"


@contextmanager
def prometheus(seen: Watched, folder: Path) -> Iterator[httpx.Client]:
    """Yield its API; it scrapes each second, else as the file in the repository says."""
    (folder / "alerts.yml").write_bytes((RULES / "alerts.yml").read_bytes())
    config = folder / "prometheus.yml"
    config.write_text(f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [alerts.yml]
scrape_configs:
  - {{job_name: worker-metrics, static_configs: [{{targets: ["{seen.overall}"]}}]}}
  - {{job_name: worker, file_sd_configs: [{{files: ["{seen.files}/*.json"]}}]}}
""")
    address = f"127.0.0.1:{free_port(0)}"
    server = ChildProcess(
        [
            shutil.which("prometheus") or "",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        ],
        log=folder / "prometheus.log",
    )
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1/") as client:
            yield client
    finally:
        server.kill()


def ask(server: httpx.Client, path: str, **values: str) -> Any:  # noqa: ANN401 - JSON
    """Ask its API; None = it is not ready yet."""
    try:
        answer = server.get(path, params=values)
    except httpx.ConnectError:
        return None
    return answer.json()["data"] if answer.is_success else None


def chosen(expression: str, *, interval: str = "5m") -> str:
    """Fill in the dashboard's variables: all instances."""
    filled = re.sub(r"\$(metrics|worker)\b", ".*", expression)
    return filled.replace("$__rate_interval", interval)
