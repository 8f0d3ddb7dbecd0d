"""The probes of Telnyx's dialect, against the simulator in both positions of its switches."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from worker.domain.reports.dialect import EXPECTED, judge_again
from worker.domain.reports.finding import Finding, Level
from worker.handlers.operators import probe
from worker.handlers.operators.probe import Probes
from worker.sandbox.simulator import Endpoint, Simulator, SimulatorConfig
from worker.sandbox.simulator.behaviour.config import MODELS
from worker.sandbox.simulator.behaviour.faults import Match
from worker.sandbox.simulator.record.events import ConversationCreated, ConversationDeleted
from worker.telnyx.client import TelnyxClient

QUICK = {"list_visible_after_s": 0.0}
GOOD, BAD, COPES, UNSEEN = (
    Level.OK,
    Level.FAULT,
    Level.WARNING,
    Level.UNCHECKED,
)


@contextmanager
def telnyx(**config: Any) -> Iterator[tuple[Simulator, TelnyxClient]]:  # noqa: ANN401 # its fields
    with Simulator(SimulatorConfig(**{**QUICK, **config})) as simulator:
        key = SecretStr(simulator.api_key)
        with TelnyxClient(key, base_url=simulator.base_url) as client:
            yield simulator, client


def report_on(**config: Any) -> dict[str, Finding]:  # noqa: ANN401 # fields of SimulatorConfig
    with telnyx(**config) as (simulator, client):
        report = Probes(client=client, model=MODELS[0], sees_images=True, patience_s=1.0).play()
        assert simulator.conversations() == ()
        return report


def differing(one: dict[str, Finding], other: dict[str, Finding]) -> set[str]:
    assert list(one) == list(other)
    return {name for name in one if one[name] != other[name]}


@pytest.fixture(scope="module")
def usual() -> dict[str, Finding]:
    return report_on()


def test_of_the_pessimistic_reading_everything_is_as_the_service_assumes(
    usual: dict[str, Finding],
) -> None:
    assert list(usual) == list(EXPECTED)
    assert {name: one.found for name, one in usual.items() if one.level is not GOOD} == {}


@pytest.mark.parametrize(
    ("switch", "line", "level", "seen"),
    [
        ({"put_metadata": "merge"}, "metadata update", GOOD, "merges"),
        ({"list_visible_after_s": 0.5}, "metadata filter", GOOD, "found after 0."),
        ({"list_visible_after_s": 60}, "metadata filter", BAD, "not found within 1 s"),
        ({"messages_stale_s": 0.4}, "read after write", COPES, "there after 0."),
        ({"messages_stale_s": 60}, "read after write", BAD, "not there after 1 s"),
        ({"instructions_listed": "hidden"}, "instructions", GOOD, "not listed"),
        ({"instructions_listed": "user"}, "instructions", BAD, "listed as a user message"),
        ({"reasoning_listed": "text"}, "reply", BAD, "more assistant texts than the reply"),
        ({"text_kept": False}, "text", COPES, "white space or letter forms changed"),
        ({"image_listed_as": "[image]"}, "image", BAD, "another text"),
        ({"undocumented_fields": "ignored"}, "tool round", UNSEEN, "the model did not call"),
        ({"undocumented_fields": "refused"}, "tool round", BAD, "refused with status 422"),
    ],
)
def test_a_switch_changes_its_own_line(
    usual: dict[str, Finding], switch: dict[str, Any], line: str, level: Level, seen: str
) -> None:
    report = report_on(**switch)
    finding = report[line]
    assert (finding.level, finding.found[: len(seen)]) == (level, seen)
    assert (finding.fix == "") == (level in {GOOD, UNSEEN})
    others = {one for one in differing(usual, report) if report[one].level is not UNSEEN}
    assert others <= {line}


@pytest.mark.parametrize(
    "switch",
    [
        {"messages_order": "oldest_first"},
        {"messages_order": "shuffled"},
        {"reasoning": False},
        {"reasoning_listed": "hidden"},
        {"show_prefix": False},
        {"tool_call_id_listed": True},
        {"strict_tool_calls": False},
        {"input_stored": "with_output"},
        {"concurrent_requests": "conflict"},
        {"instructions_repeated": False},
        {"created_wrapped": True},
        {"answer_fields": "bare"},
        {"echo_conversation": True},
        {"request_id_header": False},
        {"stream_done_marker": True},
        {"part_separator": "\n"},
    ],
    ids=str,
)
def test_a_switch_that_the_service_need_not_know_changes_nothing(
    usual: dict[str, Finding], switch: dict[str, Any]
) -> None:
    assert differing(usual, report_on(**switch)) == set()


@pytest.mark.parametrize(
    ("fault", "line", "seen"),
    [
        ("split_items", "user items", "2 for one turn"),
        ("foreign_message", "user items", "2 for one turn"),
        ("400", "turn", "refused with status 400, code 10015"),
        ("stored_then_dropped", "turn", "no clear answer: ended early"),
    ],
)
def test_what_goes_wrong_with_the_first_turn_is_named_and_the_conversation_deleted(
    fault: str, line: str, seen: str
) -> None:
    with telnyx() as (simulator, client):
        simulator.inject(fault)
        report = Probes(client=client, model=MODELS[0], patience_s=1.0).play()
        assert simulator.conversations() == ()
    assert (report[line].level, report[line].found) == (BAD, seen)


def test_a_repeated_text_that_is_not_one_more_message_is_named() -> None:
    with telnyx() as (simulator, client):
        simulator.inject("split_items", skip=1)
        report = Probes(client=client, model=MODELS[0], patience_s=1.0).play()
    assert (report["same text again"].level, report["user items"].level) == (BAD, GOOD)
    assert report["same text again"].found == "2 more user messages"
    assert judge_again(3, 3).found == "0 more user messages"


@pytest.mark.parametrize(
    ("fault", "level", "seen"),
    [
        ("stream_json", COPES, "the whole at the end, no pieces"),
        ("stream_no_terminal", BAD, "no clear answer: stream ended without a verdict"),
        ("stream_error", BAD, "no clear answer: stream error"),
    ],
)
def test_a_stream_in_another_format_is_named(fault: str, level: Level, seen: str) -> None:
    with telnyx() as (simulator, client):
        simulator.inject(fault, match=Match(text='"stream":true'))
        report = Probes(client=client, model=MODELS[0], patience_s=1.0).play()
    assert report["streaming"].level is level
    assert report["streaming"].found.startswith(seen)
    assert report["tool round"].level is GOOD


def test_a_model_without_images_is_not_shown_one() -> None:
    with telnyx() as (_, client):
        report = Probes(client=client, model=MODELS[0], sees_images=False, patience_s=1.0).play()
    assert report["image"].level is UNSEEN


def test_a_wrong_key_makes_one_fault_and_nothing_else_is_checked() -> None:
    with (
        telnyx() as (simulator, _),
        TelnyxClient(SecretStr("KEY-other"), base_url=simulator.base_url) as stranger,
    ):
        report = Probes(client=stranger, model=MODELS[0]).play()
    levels = [one.level for one in report.values()]
    assert report["conversation"].found == "create conversation: status 401, code 10009"
    assert levels == [BAD, *[UNSEEN] * (len(EXPECTED) - 1)]


def test_a_conversation_whose_creation_was_not_heard_of_is_deleted_all_the_same() -> None:
    with telnyx() as (simulator, client):
        simulator.inject("creation_lost")
        report = Probes(client=client, model=MODELS[0]).play()
        events = [type(entry.event) for entry in simulator.log()]
    assert report["conversation"].level is BAD
    assert events.count(ConversationCreated) == events.count(ConversationDeleted) == 1


def test_a_conversation_that_could_not_be_deleted_is_said() -> None:
    with telnyx() as (simulator, client):
        simulator.inject("500", match=Match(endpoint=Endpoint.DELETE))
        report = Probes(client=client, model=MODELS[0]).play()
        assert len(simulator.conversations()) == 1
    assert report["conversation"].level is COPES
    assert "source = worker-doctor" in report["conversation"].fix


def test_no_turn_is_sent_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "DEADLINE_S", 0.0)
    with telnyx() as (simulator, client):
        report = Probes(client=client, model=MODELS[0]).play()
        assert simulator.conversations() == ()
    assert report["turn"].found == "no time was left"
