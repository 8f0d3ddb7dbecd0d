"""Metrics: what is counted, what a failing part costs, and that files and pages name what is."""

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from tests.support.claimed import claimed
from tests.support.databases import ROOT
from tests.support.processes import eventually
from worker.cli.inspect.metrics import METRICS, Overall, Samples
from worker.domain.ids import CallId
from worker.domain.turns.calls import NotSent
from worker.domain.turns.claim import Intent
from worker.domain.turns.next_step import Send
from worker.handlers.telemetry.turns import record_elsewhere, record_post, record_worked
from worker.observability.metrics import REGISTRY, show_agents

ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
BOARD = json.loads((ROOT / "deploy/grafana/dashboards/worker.json").read_text())
RUNBOOK = ROOT / "docs/how-to/runbook.md"
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def counted() -> dict[str, tuple[str, tuple[str, ...]]]:
    """What a worker process counts: name -> type and labels."""
    collectors = {id(one): one for one in REGISTRY._collector_to_names}
    found = {}
    for collector in collectors.values():
        for family in collector.collect():
            labels = tuple(getattr(collector, "_labelnames", ()))
            found[family.name] = (family.type, labels)
    return found


def overall() -> dict[str, tuple[str, tuple[str, ...]]]:
    return {name: ("gauge", about[1:]) for name, about in METRICS.items()}


def series() -> set[str]:
    """Every name that a query may use."""
    return {
        name + suffix
        for name, (kind, _) in (counted() | overall()).items()
        for suffix in SUFFIXES[kind]
    }


def expressions() -> list[str]:
    shown = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ())]
    return shown + [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("expression", expressions())
def test_every_query_of_dashboard_and_alerts_asks_for_what_there_is(expression: str) -> None:
    assert set(re.findall(r"\b(?:worker|process)_\w+", expression)) <= series()
    labels = {label for _, names in (counted() | overall()).values() for label in names}
    used = set(re.findall(r"by \(([^)]*)\)", expression))
    used = {name.strip() for group in used for name in group.split(",")}
    used |= set(re.findall(r"(\w+)!?=~?\"", expression))
    assert used <= labels | {"le", "instance"}


def test_the_dashboard_takes_any_data_source_and_each_query_the_chosen_instances() -> None:
    variables = {one["name"]: one for one in BOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert set(re.findall(r'"uid": "([^"]*)"', json.dumps(BOARD["panels"]))) == {"${datasource}"}
    for name, about in variables.items():
        assert about.get("datasource", {"uid": "${datasource}"})["uid"] == "${datasource}", name
    for panel in BOARD["panels"]:
        for target in panel.get("targets", ()):
            for name, selector in re.findall(r"\b((?:worker|process)_\w+)(\S*)", target["expr"]):
                of = "metrics" if name in overall() else "worker"
                assert selector.startswith(f'{{instance=~"${of}"}}'), (panel["title"], name)


@pytest.mark.parametrize(
    ("heading", "real"),
    [("## Metrics of the installation", overall()), ("## Metrics of a worker process", counted())],
    ids=["overall", "counted"],
)
def test_the_page_of_metrics_is_whole_and_true(
    heading: str, real: dict[str, tuple[str, tuple[str, ...]]]
) -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text().partition(f"\n{heading}\n")[2]
    rows = re.findall(r"(?m)^\| `(\w+)` \| (\w*) \| (.*?) \|", page.partition("\n## ")[0])
    shown = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    expected = {
        name + ("_total" if kind == "counter" else ""): (kind, labels)
        for name, (kind, labels) in real.items()
        if name.startswith("worker_")
    }
    assert shown == expected


def test_every_alert_has_its_entry_in_the_runbook_and_there_is_no_other() -> None:
    page = RUNBOOK.read_text()
    alerts = [rule["alert"] for group in ALERTS["groups"] for rule in group["rules"]]
    assert re.findall(r"(?m)^## (Worker\w+)$", page) == alerts
    for rule in (rule for group in ALERTS["groups"] for rule in group["rules"]):
        anchor = f"{{{{ $externalLabels.runbook }}}}#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == anchor
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert (ROOT / prometheus["global"]["external_labels"]["runbook"]).samefile(RUNBOOK)
    for entry in re.split(r"(?m)^## ", page)[1:]:
        if entry.startswith("Worker"):
            assert re.findall(r"(?m)^\*\*(.*?)\*\*", entry) == ["Means", "Look", "Fix"], entry[:40]


# --- a worker's own ------------------------------------------------------------------------------


def counted_since(name: str, **labels: str) -> Callable[[str], float]:
    """Return what reads how much a series of `name` has grown: the registry is the process's."""

    def value(suffix: str) -> float:
        return REGISTRY.get_sample_value(name + suffix, labels) or 0.0

    before = {suffix: value(suffix) for suffix in ("_sum", "_count")}
    return lambda suffix: value(suffix) - before[suffix]


def test_our_own_time_is_that_of_the_claim_less_posts_and_tools() -> None:
    own = counted_since("worker_own_seconds")
    telnyx = counted_since("worker_telnyx_seconds", agent="own-time")
    work = claimed(
        Send(agent="own-time", batch=()),
        agent="own-time",
        intent=Intent(call_id=CallId(1), round=0, attempt=0, instructions=None),
    )
    record_post(work, NotSent(reason="no connection"), seconds=2.0)
    record_elsewhere(1.0)
    record_post(work, NotSent(reason="no connection"), seconds=3.0)
    record_worked(6.5)
    record_worked(0.25)
    assert own("_sum") == pytest.approx(0.75), "nothing of the first is left for the second"
    assert own("_count") == 2
    assert telnyx("_sum") == 5.0


def test_what_an_alert_counts_is_there_before_the_first() -> None:
    show_agents(("rare",))
    for outcome in ("Done", "none"):
        labels = {"agent": "rare", "plan": "GiveUp", "outcome": outcome}
        assert REGISTRY.get_sample_value("worker_turns_settled_total", labels) == 0


# --- `worker metrics` ----------------------------------------------------------------------------


@dataclass
class Asking:
    """A part that counts how often it is asked, on a clock that it moves."""

    takes_s: float = 0.0
    error: Exception | None = None
    times: int = 0
    now_s: float = 0.0
    others: list["Asking"] = field(default_factory=list)

    def __call__(self) -> Samples:
        self.times += 1
        for each in (self, *self.others):
            each.now_s += self.takes_s
        if self.error is not None:
            raise self.error
        return (("worker_turns_open", (), float(self.times)),)


def shown_by(collector: Overall) -> Callable[..., float | None]:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry.get_sample_value


def error_of(collector: Overall, part: str) -> float | None:
    return shown_by(collector)("worker_scrape_error", {"part": part})


def test_a_part_that_fails_is_told_and_the_others_are_shown() -> None:
    good, bad = Asking(), Asking(error=RuntimeError("somebody's words"))
    both = Overall({"bad": bad, "good": good}, clock=lambda: 0.0)
    assert error_of(both, "bad") == 1
    assert error_of(both, "good") == 0
    assert shown_by(both)("worker_turns_open") == good.times == 3
    assert b"words" not in generate_latest(_registry(both))


def _registry(collector: Overall) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def test_scrapes_that_come_together_ask_once_and_a_later_one_again() -> None:
    answers, part, begun = threading.Event(), Asking(), []

    def slow() -> Samples:
        begun.append(None)
        answers.wait(30)
        return part()

    collector = Overall({"p": slow}, wait_s=0.05, clock=lambda: 0.0)
    for _ in range(2):
        assert error_of(collector, "p") == 1, "not ready in time"
    assert len(begun) == 1
    answers.set()
    assert eventually(lambda: error_of(collector, "p") == 0)
    before = part.times
    assert shown_by(collector)("worker_turns_open") == before + 1


def test_a_part_that_failed_is_asked_again_and_its_old_value_is_not_shown() -> None:
    part = Asking()
    collector = Overall({"p": part}, clock=lambda: part.now_s)
    assert shown_by(collector)("worker_turns_open") == 1
    part.error = OSError()
    assert shown_by(collector)("worker_turns_open") is None
    part.error = None
    assert shown_by(collector)("worker_turns_open") == 3


def test_no_part_is_begun_when_the_scrape_has_taken_too_long() -> None:
    late = Asking()
    slow = Asking(takes_s=5, others=[late])
    collector = Overall({"slow": slow, "late": late}, clock=lambda: slow.now_s)
    assert error_of(collector, "late") == 1
    assert late.times == 0


def test_a_part_that_never_answers_holds_up_no_scrape_and_hides_no_other() -> None:
    frozen, others = threading.Event(), Asking()

    def hang() -> Samples:
        frozen.wait(30)
        return ()

    collector = Overall({"good": others, "frozen": hang}, wait_s=0.2, clock=lambda: others.now_s)
    for _ in range(2):
        assert error_of(collector, "frozen") == 1
        assert error_of(collector, "good") == 0
    others.now_s = 6
    assert error_of(collector, "good") == 1, "too old, and nobody can ask"
    assert others.times == 1, "no second scrape piles up behind the one that hangs"
    frozen.set()
    assert eventually(lambda: error_of(collector, "frozen") == error_of(collector, "good") == 0)
    assert others.times > 1
