"""Measures the gateway: webhooks per second, their latency, and CPU beside a bare Starlette."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import machine
from bench.children import ROOT
from bench.report import Report
from bench.rounds import percentile
from bench.stage import NAMESPACE, Stage, Subject
from bench.variants import OURS
from bench.webhooks import Sent, request_of, send
from tests.support.processes import eventually
from tests.support.telnyx_events import PUBLIC_KEY, received
from worker.cli.local.service import free_port
from worker.net.child_process import ChildProcess

CONNECTIONS = 32
_START_S = 30.0
OURS_COMMAND = ("-m", "worker", "gateway", "--port")
FLOOR_COMMAND = ("-m", "bench.gateway_floor")
EVENTS = "CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body jsonb)"


def measure(stage: Stage, report: Report, *, rounds: int, webhooks: int) -> None:
    """Let floor and gateway, one process each, take the same webhooks alternately."""
    spent_ms: dict[str, list[float]] = {"floor": [], "ours": []}
    rates, p99s_ms = [], []
    with stage.subject(OURS, answers=1, processes=0) as subject:
        subject.connection.execute(EVENTS)
        for _ in range(rounds):
            for name, command in (("floor", FLOOR_COMMAND), ("ours", OURS_COMMAND)):
                with _server(stage, subject, command) as (port, process):
                    send(port, _webhooks(200), connections=CONNECTIONS)
                    before = machine.cpu_s(process.pid)
                    sent = send(port, _webhooks(webhooks), connections=CONNECTIONS)
                    spent_s = machine.cpu_s(process.pid) - before
                spent_ms[name].append(spent_s * 1000 / webhooks)
                if name == "ours":
                    rates.append(webhooks / sent.seconds)
                    p99s_ms.append(percentile(sent.took_ms, 99))
    for floor, ours in zip(spent_ms["floor"], spent_ms["ours"], strict=True):
        print(f"  gateway {ours:.3f} ms, bare Starlette {floor:.3f} ms of CPU per webhook")
    report.add("gateway_rate", rates, f"{CONNECTIONS} connections, each webhook committed")
    report.add("gateway_p99_ms", p99s_ms, "at that rate")
    pairs = zip(spent_ms["ours"], spent_ms["floor"], strict=True)
    note = f"{min(spent_ms['ours']):.3f} ms against {min(spent_ms['floor']):.3f} ms"
    report.add("gateway_floor", [ours / floor for ours, floor in pairs], note)


def _webhooks(number: int) -> Sequence[bytes]:
    return [
        request_of(received(**{"from": {"phone_number": f"+1312555{one % 10_000:04}"}}))
        for one in range(number)
    ]


@contextmanager
def _server(
    stage: Stage, subject: Subject, command: Sequence[str]
) -> Iterator[tuple[int, ChildProcess]]:
    port = free_port(0)
    log = stage.folder / f"gateway-{next(stage.numbers)}.log"
    process = ChildProcess(
        [sys.executable, *command, str(port)],
        log=log,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": subject.database_url,
            "DATABASE_PREPARE": "true",
            "BROKER_URL": subject.broker_url,
            "TELNYX_API_KEY": "KEY",
            "TELNYX_PUBLIC_KEY": PUBLIC_KEY,
            "NAMESPACE": NAMESPACE,
            "SANDBOX_DIR": str(stage.folder / "none"),
        },
    )
    try:
        eventually(lambda: _takes(port), timeout_s=_START_S)
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {0})
        yield port, process
    except (RuntimeError, OSError) as error:
        raise RuntimeError(f"{command}: {error}\n{log.read_text()[-3000:]}") from None
    finally:
        process.kill()


def _takes(port: int) -> bool:
    try:
        _: Sent = send(port, _webhooks(1), connections=1)
    except (OSError, EOFError):
        return False
    return True
