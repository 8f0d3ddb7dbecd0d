"""What a collector of OpenTelemetry gets: spans, decoded out of OTLP over HTTP."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.processes import eventually
from tests.support.receiver import Receiver


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One span that has ended."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[str, ...]
    """The spans that it names besides, as "trace id-span id"."""
    facts: dict[str, Any]
    failed: bool
    process: str
    """`workers.id` of the process that it comes from."""
    service: str


def spans(collector: Receiver) -> list[Seen]:
    """All that have come so far."""
    return [
        _seen(span, of.resource.attributes)
        for posted in collector.posted
        for of in ExportTraceServiceRequest.FromString(posted.raw).resource_spans
        for scope in of.scope_spans
        for span in scope.spans
    ]


def wait_for_spans(
    collector: Receiver, wanted: Callable[[list[Seen]], bool], *, of: str
) -> list[Seen]:
    """Give the spans of a trace once they are what is wanted."""

    def found() -> list[Seen]:
        return [one for one in spans(collector) if one.trace_id == of]

    assert eventually(lambda: wanted(found())), sorted(one.name for one in spans(collector))
    return found()


def _seen(span: Span, resource: Any) -> Seen:  # noqa: ANN401 - a repeated field
    process = _facts(resource)
    return Seen(
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=tuple(f"{one.trace_id.hex()}-{one.span_id.hex()}" for one in span.links),
        facts=_facts(span.attributes),
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        process=process["service.instance.id"],
        service=process["service.name"],
    )


def _facts(attributes: Any) -> dict[str, Any]:  # noqa: ANN401
    return {one.key: _value(one.value) for one in attributes}


def _value(value: AnyValue) -> Any:  # noqa: ANN401
    return getattr(value, str(value.WhichOneof("value")))
