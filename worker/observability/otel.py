"""Spans by OpenTelemetry: imported only where traces are wanted, see `bootstrap_tracing`."""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.contextvars import bound_contextvars

from worker.observability.traces import Kind, Tell, Tracer

STOP_S: Final = 2.0
"""So long a process that ends waits for its last spans; the library's own would be 30 s."""
_FIELD: Final = "traceparent"
_W3C: Final = TraceContextTextMapPropagator()


class OtelTracer(Tracer):
    """Spans of the SDK; sampling, limits and where they go are the standard variables'."""

    def __init__(self, resource: Mapping[str, str]) -> None:
        """`resource`: what the process is, where OTEL_RESOURCE_ATTRIBUTES does not say it."""
        _quieten()
        named = {**resource, **OTELResourceDetector().detect().attributes}
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        self._tracer = self._provider.get_tracer("worker")

    def start(self) -> None:
        """Start to send spans, on a thread that nobody waits for; what is too much is dropped."""
        exporter = trace_exporter.OTLPSpanExporter()
        self._provider.add_span_processor(BatchSpanProcessor(exporter))

    def stop(self) -> None:
        """Send what is left, for at most `STOP_S`."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(STOP_S)

    @contextmanager
    def span(  # noqa: D102 - as in Tracer, and so below
        self,
        name: str,
        tell: Tell,
        *,
        kind: Kind = Kind.INTERNAL,
        parent: str | None = None,
        links: Sequence[str] = (),
    ) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            name,
            context=None if parent is None else _W3C.extract({_FIELD: parent}),
            kind=trace.SpanKind[kind.name],
            links=[trace.Link(_span_context(one)) for one in links],
            record_exception=False,  # its text may quote what somebody wrote
            set_status_on_exception=False,
        ) as span:
            trace_id = trace.format_trace_id(span.get_span_context().trace_id)
            self.note(tell)
            try:
                with bound_contextvars(trace_id=trace_id):
                    yield
            except Exception as error:
                kind_of_error = type(error).__name__
                self.note(lambda: {"error.type": kind_of_error})
                raise

    def note(self, tell: Tell) -> None:  # noqa: D102
        span, facts = trace.get_current_span(), tell()
        span.set_attributes({name: one for name, one in facts.items() if one is not None})
        if facts.get("error.type") is not None:
            span.set_status(trace.StatusCode.ERROR)

    def here(self) -> str | None:  # noqa: D102
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier.get(_FIELD)


def _span_context(traceparent: str) -> trace.SpanContext:
    return trace.get_current_span(_W3C.extract({_FIELD: traceparent})).get_span_context()


def _quieten() -> None:
    """Keep endpoint and headers out of the log, which may hold keys; leave why a batch was lost."""
    exporter = logging.getLogger(trace_exporter.__name__)
    exporter.setLevel(logging.ERROR)
    exporter.addFilter(_types_of_exceptions)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    # They quote what they cannot read.
    for name in ("opentelemetry.util.re", "opentelemetry.sdk.resources"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _types_of_exceptions(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(
            type(one).__name__ if isinstance(one, Exception) else one for one in record.args
        )
    return True
