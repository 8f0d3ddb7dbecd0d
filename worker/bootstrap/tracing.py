"""Builds what traces the work of a process; where no endpoint is set, nothing does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from worker.domain.ids import WorkerId
from worker.observability.logs import log
from worker.observability.traces import Tracer

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


@dataclass(frozen=True, kw_only=True)
class Tracing:
    """What the handlers trace with, and what sends it."""

    tracer: Tracer
    start: Callable[[], object] = lambda: None
    stop: Callable[[], object] = lambda: None


def build_tracing(environ: Mapping[str, str], worker_id: WorkerId) -> Tracing:
    """Build it; nothing is started. All but whether it is wanted is read by OpenTelemetry.

    Somebody's collector is no reason not to answer people: what fails here costs the traces.
    """
    if not is_wanted(environ):
        return Tracing(tracer=Tracer())
    try:
        from worker.observability.otel import OtelTracer  # noqa: PLC0415 - an extra

        tracer = OtelTracer(
            {"service.name": "worker", "service.instance.id": str(worker_id)},
        )
    except ImportError:
        log.error("traces.import_failed", install="worker[otel]")
        return Tracing(tracer=Tracer())
    except Exception as error:  # noqa: BLE001 - see above
        log.error("traces.setup_failed", error=type(error).__name__)
        return Tracing(tracer=Tracer())

    def start() -> None:
        try:
            tracer.start()
        except Exception as error:  # noqa: BLE001
            log.error("traces.start_failed", error=type(error).__name__)

    return Tracing(tracer=tracer, start=start, stop=tracer.stop)


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether an endpoint is set, and nothing of OpenTelemetry's says no."""
    off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporters = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    by_otlp = "otlp" in {one.strip() for one in exporters.split(",")}
    return any(environ.get(name) for name in ENDPOINTS) and by_otlp and not off
