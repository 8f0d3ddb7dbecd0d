"""The bench harness: its arithmetic, its table, its files, and one round of the real thing."""

import io
import json
import os
import random
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from bench import machine, profile, soak
from bench.bars import BARS, BY_KEY
from bench.orders import Order, arrivals, envelope
from bench.report import Measured, Report, plot
from bench.rounds import Round, percentile, ratios
from message_worker_client.envelope import parse_envelope
from tests.support.databases import ROOT


def a_round(cpu_ms: float, *added_ms: float) -> Round:
    return Round(
        messages=100,
        seconds=2.0,
        cpu_ms=cpu_ms,
        postgres_ms=1.0,
        wal_kb=5.0,
        redis_ms=0.1,
        upstream_share=0.1,
        added_ms=added_ms,
    )


def a_report() -> Report:
    report = Report(about={"cores": 2})
    report.add("cpu_floor", [1.4, 1.6, 1.45], "floor 4 ms")
    report.add("rate_floor", [0.5, 0.7, 0.6])
    return report


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(n) for n in range(1, 201)]
    assert [percentile(values, percent) for percent in (50, 95, 99, 100)] == [100, 190, 198, 200]
    assert percentile(values[:10], 95) == 10, "rounded up"
    assert percentile([7.0], 99) == 7


def test_a_ratio_is_taken_between_neighbours_of_one_round() -> None:
    ours, floor = [a_round(6.0), a_round(30.0)], [a_round(4.0), a_round(20.0)]
    assert ratios(ours, floor, lambda one: one.cpu_ms) == [1.5, 1.5]


def test_the_median_of_the_rounds_is_held_against_the_bar() -> None:
    assert Measured(key="cpu_floor", rounds=(1.4, 9.0, 1.5)).passed
    assert not Measured(key="cpu_floor", rounds=(1.51, 1.51, 1.0)).passed
    assert not Measured(key="rate_floor", rounds=(0.6,)).passed
    assert a_report().failed == ["rate_floor"]


def test_the_bars_are_those_of_the_task() -> None:
    assert {bar.key: str(bar) for bar in BARS} == {
        "cpu_floor": "≤ 1.5 x floor",
        "cpu_naive": "≤ 1 x naive",
        "cpu_peer": "≤ 1 x procrastinate",
        "cpu_before": "≤ 0.65 x before",
        "cpu_lists_before": "≤ 0.5 x before",
        "postgres_before": "≤ 0.7 x before",
        "wal_kb": "≤ 3.1 KB",
        "redis_ms": "≤ 0.12 ms",
        "redis_lists_ms": "≤ 0.05 ms",
        "first_contact": "≤ 2 x later",
        "sms_webhook": "≤ 1.15 x webhook",
        "rate_floor": "≥ 0.65 x floor",
        "rate_before": "≥ 1.5 x before",
        "per_gb_naive": "≥ 50 x naive",
        "rss_1000": "≤ 300 MB",
        "slow_floor": "≥ 0.9 x floor",
        "ideal_1000": "≥ 0.7 x ideal",
        "rss_1000_slow": "≤ 220 MB",
        "two_one": "≥ 1.6 x one",
        "cpu_1000_50": "≤ 1.25 x 50",
        "p50_floor": "≤ 3 x floor",
        "p99_floor": "≤ 3 x floor",
        "p50_before": "≤ 1 x before",
        "p99_ms": "≤ 50 ms",
        "grown_empty": "≤ 1.2 x empty",
        "sweep_ms": "≤ 5 ms",
        "fair": "≤ 2 x alone",
        "fair_threads": "≤ 2 x alone",
        "fair_numbers": "≤ 2 x alone",
        "first_s": "≤ 1.5 s",
        "first_after_cut_s": "≤ 16.5 s",
        "accept_floor": "≥ 0.7 x floor",
        "accept_rss": "≤ 1.1 x before",
        "send_many": "≥ 3 x send_task",
        "gateway_rate": "≥ 500 /s",
        "gateway_p99_ms": "≤ 100 ms",
        "gateway_floor": "≤ 2 x floor",
        "mails_rate": "≥ 100 /s",
        "mail_25mb": "≤ 150 MB",
        "idle_cpu": "≤ 1 % of a core",
        "idle_connections": "≤ 120 connections",
        "foreign": "≤ 1.5 x quiet",
        "sql_p50_ms": "≤ 50 ms",
    }


def test_the_table_shows_value_bar_and_verdict_and_what_was_not_measured() -> None:
    console = Console(file=io.StringIO(), width=150)
    a_report().show(console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"1\.45 x floor \(1\.40 to 1\.60\) +≤ 1\.5 x floor +pass", shown)
    assert re.search(r"0\.60 x floor \(0\.50 to 0\.70\) +≥ 0\.65 x floor +FAIL", shown)
    assert shown.count("not measured") == len(BARS) - 2


def test_the_file_holds_every_round_and_the_machine(tmp_path: Path) -> None:
    report = a_report()
    report.facts["half_load"] = {"per_second": 40.0}
    path = report.write(tmp_path / "results" / "2026-01-01-abc.json")
    written = json.loads(path.read_text())
    assert written.keys() == {"about", "bars", "columns", "facts", "broken"}
    assert written["bars"][1] == {
        "key": "rate_floor",
        "what": BY_KEY["rate_floor"].what,
        "value": 0.6,
        "unit": "x floor",
        "bar": "≥ 0.65 x floor",
        "pass": False,
        "rounds": [0.5, 0.7, 0.6],
        "note": "",
    }
    assert Report.read(path) == report, "a later run adds to it"
    assert machine.describe().keys() >= {"cpu", "cores", "memory_gb", "python", "packages"}


def test_the_plot_is_an_svg_with_a_dot_for_each_round() -> None:
    drawn = ET.fromstring(plot(a_report().measured))  # noqa: S314 - we have just made it
    assert len(drawn.findall("{http://www.w3.org/2000/svg}circle")) == 6


def test_the_load_is_the_same_for_the_same_seed_and_at_the_rate_asked_for() -> None:
    order = Order(broker_url="", first=0, count=2000, users=10, seed=7, rate=50.0)
    times = list(arrivals(order))
    assert times == list(arrivals(order))
    assert times == sorted(times)
    assert 2000 / times[-1] == pytest.approx(50, rel=0.1)


def test_the_load_is_made_of_valid_envelopes() -> None:
    order = Order(broker_url="", first=0, count=1, users=10, seed=7)
    message = parse_envelope(envelope(23, order, random.Random(7)))  # noqa: S311 - no secret
    assert (message.user, message.message_id) == ("u3", "m-23")
    assert message.text.startswith("#23 ")


def test_a_soak_is_flat_when_the_end_is_no_higher_than_the_second_quarter() -> None:
    assert soak.is_flat([100, 150, 200, 200, 201, 200, 205, 203])
    assert not soak.is_flat([100, 150, 200, 210, 220, 230, 240, 250])


@pytest.mark.parametrize("peer", ["procrastinate", "dramatiq", "taskiq"])
def test_the_packages_of_a_peer_are_pinned(peer: str) -> None:
    lines = (ROOT / "bench" / "peers" / f"{peer}.txt").read_text().splitlines()
    assert [line for line in lines if not re.match(r"[\w.-]+==\d", line)] == []
    assert any(line.startswith(f"{peer}==") for line in lines)


def test_a_profile_counts_a_function_once_however_deep_it_calls_itself() -> None:
    stacks = profile.parse(
        [
            "run (/x/worker/a.py:1);run (/x/worker/a.py:1);send (/x/site-packages/http/b.py:2) 30",
            "run (/x/worker/a.py:1) 10",
        ]
    )
    assert profile.own_time(stacks) == [("send (http/b.py:2)", 0.75), ("run (worker/a.py:1)", 0.25)]
    assert profile.by_package(stacks) == [("http", 0.75), ("worker", 0.25)]
    assert profile.below_ours(stacks) == [("run (worker/a.py)", 1.0)]


def test_a_profile_tells_celerys_worker_from_ours() -> None:
    paths = ("/x/lib/python3.11/site-packages/celery/worker/a.py", "/x/lib/python3.11/json/b.py")
    stacks = profile.parse([f"call ({path}:1) 1" for path in (*paths, "/x/worker/store/c.py")])
    assert {name for name, _ in profile.by_package(stacks)} == {"celery", "json", "worker"}


def test_cpu_and_memory_of_this_process_are_read() -> None:
    before = machine.cpu_s(os.getpid())
    while machine.cpu_s(os.getpid()) < before + 0.05:
        sum(range(10_000))
    assert 5 < machine.pss_mb(os.getpid()) <= machine.rss_mb(os.getpid()) * 2
    assert machine.threads(os.getpid()) >= 1
