"""Traces of a process that ends, and of one without the library."""

import os
import subprocess
import sys
import time

from tests.support.databases import ROOT
from worker.observability.otel import STOP_S

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


def run(program: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_an_endpoint_no_sdk_is_imported_and_without_the_extra_nothing_breaks() -> None:
    done = run(f"""
import sys
from uuid import uuid4
sys.modules["opentelemetry.sdk"] = sys.modules["opentelemetry.exporter"] = None
from worker.bootstrap.shared import _trace_export
from worker.observability import traces
assert _trace_export({{}}, uuid4()) is None
assert "worker.observability.otel" not in sys.modules
assert _trace_export({ENDPOINT}, uuid4()) is None
with traces.span("turn", lambda: {{"worker.turn": 1}}):
    assert traces.current_traceparent() is None
""")
    assert done.returncode == 0, done.stderr
    assert "traces.import_failed" in done.stdout
    assert "message-worker[otel]" in done.stdout


def test_a_dead_collector_costs_a_process_that_ends_a_moment_and_its_address_stays_secret() -> None:
    done = run(
        """
import logging
import time
from worker.observability import traces
from worker.observability.otel import TraceExport
logging.basicConfig(level="DEBUG")
export = TraceExport({})
export.start()
for number in range(3000):  # more than the queue holds
    with traces.span("turn", lambda: {"worker.turn": number}):
        pass
print(time.monotonic())
export.stop()
""",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://canary-user:canary-word@127.0.0.1:1/canary-token",
        OTEL_EXPORTER_OTLP_HEADERS="authorization: Bearer canary-key",  # a usual mistake
        OTEL_RESOURCE_ATTRIBUTES="canary-without-a-value",
    )
    assert done.returncode == 0, done.stderr
    # From `stop` to the end of the process, without the start of an interpreter.
    assert time.monotonic() - float(done.stdout) < STOP_S + 8, "the library waits for 30 s"
    assert "Queue full" in done.stderr
    assert "canary" not in done.stderr
