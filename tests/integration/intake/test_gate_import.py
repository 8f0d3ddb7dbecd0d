"""Importing the gate into a Celery app changes nothing else."""

import subprocess
import sys

STOCK = "kombu.transport.redis:Transport"


def test_importing_it_changes_nothing() -> None:
    code = "import worker.queue.gate.install, kombu.transport as t"
    code += "; print(t.TRANSPORT_ALIASES['redis'])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == STOCK
