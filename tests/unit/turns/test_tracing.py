"""Traces: when there are any, what they keep to themselves, and what a dead collector costs."""

from collections.abc import Iterator
from typing import NoReturn

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from worker.observability import traces
from worker.observability.otel import TraceExport
from worker.observability.traces import TRACEPARENT

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def kept() -> Iterator[InMemorySpanExporter]:
    kept = InMemorySpanExporter()
    export = TraceExport({"service.name": "worker"})
    export.provider.add_span_processor(SimpleSpanProcessor(kept))
    yield kept
    export.stop()


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "True"}, False),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "otlp"}, True),
    ],
)
def test_there_are_traces_where_opentelemetrys_own_variables_say_so(
    environ: dict[str, str], wanted: bool
) -> None:
    assert traces.are_wanted(environ) is wanted


def test_an_exception_leaves_its_type_and_not_a_word(kept: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="canary"), traces.span("turn", dict):
        raise ValueError("canary")
    (span,) = kept.get_finished_spans()
    assert dict(span.attributes or {}) == {"error.type": "ValueError"}
    assert span.events == ()
    assert (span.status.is_ok, span.status.description) == (False, None)


def test_what_is_not_known_is_left_out_and_the_span_around_is_the_parent(
    kept: InMemorySpanExporter,
) -> None:
    with traces.span("turn", lambda: {"worker.turn": 7, "worker.call": None}, parent=PARENT):
        here = traces.current_traceparent()
        with traces.span("telnyx find", dict):
            traces.note(lambda: {"http.response.status_code": 200})
    inner, outer = kept.get_finished_spans()
    assert dict(outer.attributes or {}) == {"worker.turn": 7}
    assert dict(inner.attributes or {}) == {"http.response.status_code": 200}
    assert outer.parent is not None
    assert f"{outer.parent.span_id:016x}" == PARENT.split("-")[2]
    assert here is not None
    assert here.split("-")[1] == PARENT.split("-")[1]
    assert inner.parent == outer.context
    assert traces.current_traceparent() is None


@pytest.mark.parametrize(
    "text",
    [
        PARENT[3:],
        f"{PARENT}-00",
        PARENT.upper(),
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        "00-somebody@example.org-b7ad6b7169203331-01",
    ],
)
def test_what_is_no_traceparent_is_none(text: str) -> None:
    assert TRACEPARENT.fullmatch(PARENT)
    assert TRACEPARENT.fullmatch(text) is None


def test_a_process_without_traces_makes_nothing_of_them() -> None:
    assert traces.span("a", dict) is traces.span("b", _never_called, parent=PARENT)
    traces.note(_never_called)


def test_facts_of_a_span_that_is_not_sampled_are_not_computed() -> None:
    export = TraceExport({})
    unsampled = f"{PARENT[:-2]}00"
    with traces.span("turn", _never_called, parent=unsampled):
        traces.note(_never_called)
        assert traces.current_traceparent() is not None
    export.stop()


def _never_called() -> NoReturn:
    raise AssertionError("nobody records")
