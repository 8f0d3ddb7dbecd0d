"""Sends spans with OpenTelemetry's SDK. Imported only if traces are wanted: the SDK is an extra."""

import logging
import os
import threading
from collections.abc import Mapping
from typing import Final

from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from worker.observability import traces
from worker.observability.logs import log

_OWN_CERTIFICATES: Final = (
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
)
STOP_S: Final = 2.0
"""How long an ending process waits for its last spans; the library's own limit is 30 s."""


class TraceExport:
    """The SDK of one process; OpenTelemetry's variables set sampling, limits and the receiver."""

    def __init__(self, resource: Mapping[str, str]) -> None:
        """Make spans from now on. `resource` names the process; OTEL_RESOURCE_ATTRIBUTES wins."""
        _quieten()
        named = {**resource, **OTELResourceDetector().detect().attributes}
        # Without `shutdown_on_exit` the SDK would wait 30 s at exit; `stop` waits for `STOP_S`.
        self.provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        traces.use(self.provider.get_tracer("worker"))

    def start(self) -> None:
        """Send spans from a thread of their own; when its queue is full, spans are dropped."""
        # A collector that cannot be reached, or a mistyped variable, costs the traces only.
        try:
            exporter = trace_exporter.OTLPSpanExporter(certificate_file=_certificates())
            self.provider.add_span_processor(BatchSpanProcessor(exporter))
        except Exception as error:  # noqa: BLE001 - see above
            log.error("traces.start_failed", error=type(error).__name__)

    def stop(self) -> None:
        """Send the remaining spans, for at most `STOP_S`."""
        traces.use(None)
        ending = threading.Thread(target=self.provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(STOP_S)


def _certificates() -> str | None:
    """Return SSL_CERT_FILE, which the exporter's library does not read; None = its own settings."""
    own = any(os.environ.get(name) for name in _OWN_CERTIFICATES)
    return None if own else os.environ.get("SSL_CERT_FILE") or None


def _quieten() -> None:
    """Keep endpoint and headers, which may hold keys, out of the log; keep why a batch was lost."""
    exporter = logging.getLogger(trace_exporter.__name__)
    exporter.setLevel(logging.ERROR)
    exporter.addFilter(_only_types_of_exceptions)
    # It logs each retry with the URL, whose path or user may be a key.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    # These two quote the variable that they cannot parse.
    for name in ("opentelemetry.util.re", "opentelemetry.sdk.resources"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _only_types_of_exceptions(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(
            type(one).__name__ if isinstance(one, Exception) else one for one in record.args
        )
    return True
