"""Spans of the work in progress, over OpenTelemetry's API. Without a tracer none are made.

`worker.observability.otel` sets the tracer if an endpoint is configured.

Facts are ids, numbers, and names from the configuration or the code: never a text, an address, or
a value that a producer or a model may choose. A `traceparent` is that of W3C Trace Context.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, TypeAlias

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Kind: TypeAlias = trace.SpanKind
Facts: TypeAlias = Mapping[str, str | int | None]
"""None = unknown, so left out. `error.type` marks the span as failed."""
TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_FIELD: Final = "traceparent"
_W3C: Final = TraceContextTextMapPropagator()
_NO_SPAN: Final = nullcontext()

_tracer: trace.Tracer | None = None


def are_wanted(environ: Mapping[str, str]) -> bool:
    """Whether an endpoint is set and none of OpenTelemetry's own variables switches traces off."""
    off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporters = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    by_otlp = "otlp" in {one.strip() for one in exporters.split(",")}
    return any(environ.get(name) for name in _ENDPOINTS) and by_otlp and not off


def use(tracer: trace.Tracer | None) -> None:
    """Make all spans of this process with `tracer`; None = make none."""
    # Not OpenTelemetry's global provider: libraries and tools would send spans through it as well,
    # and nobody has checked those for texts and addresses.
    global _tracer  # noqa: PLW0603 - one tracer a process, as OpenTelemetry itself has it
    _tracer = tracer


def span(
    name: str,
    facts: Callable[[], Facts],
    *,
    kind: Kind = Kind.INTERNAL,
    parent: str | None = None,
    links: Sequence[str] = (),
) -> AbstractContextManager[None]:
    """Return a context manager that traces its block. Of an exception it notes only the type.

    `facts` is not called if nothing is recorded. `parent` and `links` are traceparents: of the
    cause (None = the current span), and of what else the span belongs to.
    """
    # OpenTelemetry's own no-op costs 10 us a span, this 0.3 us; a message has five spans.
    if _tracer is None:
        return _NO_SPAN
    started = _tracer.start_as_current_span(
        name,
        context=None if parent is None else _W3C.extract({_FIELD: parent}),
        kind=kind,
        links=[
            trace.Link(trace.get_current_span(_W3C.extract({_FIELD: one})).get_span_context())
            for one in links
        ],
        # Both would record the exception's text, which may quote a message.
        record_exception=False,
        set_status_on_exception=False,
    )
    return _noting(started, facts)


@contextmanager
def _noting(
    started: AbstractContextManager[trace.Span], facts: Callable[[], Facts]
) -> Iterator[None]:
    # Not at the top: `worker doctor` calls Telnyx untraced, and structlog loads half of rich.
    from structlog.contextvars import bound_contextvars  # noqa: PLC0415

    with started as current:
        trace_id = trace.format_trace_id(current.get_span_context().trace_id)
        note(facts)
        try:
            with bound_contextvars(trace_id=trace_id):
                yield
        except Exception as error:
            error_type = type(error).__name__
            note(lambda: {"error.type": error_type})
            raise


def note(facts: Callable[[], Facts]) -> None:
    """Add facts to the current span; `facts` is not called if nothing is recorded."""
    if _tracer is None:
        return
    current = trace.get_current_span()
    if not current.is_recording():
        return
    known = {name: fact for name, fact in facts().items() if fact is not None}
    current.set_attributes(known)
    if "error.type" in known:
        current.set_status(trace.StatusCode.ERROR)


def current_traceparent() -> str | None:
    """Return the traceparent of the current span; None = there is none."""
    # A span of somebody's automatic instrumentation is not ours to pass on.
    if _tracer is None:
        return None
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get(_FIELD)
