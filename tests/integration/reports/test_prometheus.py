"""A real Prometheus that scrapes real processes, where Debian's package is installed.

Without it there are no tests here; `tests/unit/reports/test_metrics.py` checks the names.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import scraping
from tests.support.databases import ROOT
from tests.support.processes import eventually
from tests.support.programs import are_installed
from tests.support.scraping import RULES, ask, chosen
from tests.support.watched import Watched, scraped, watched
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis

__test__ = are_installed("prometheus", "promtool")  # else pytest would report tests that cannot be
BOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "worker.json").read_text())


@pytest.fixture(scope="module")
def seen(shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis) -> Iterator[Watched]:
    with watched(shared_postgres, shared_redis) as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(seen: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Its API."""
    with scraping.prometheus(seen, tmp_path_factory.mktemp("prometheus")) as client:
        yield client


def queries() -> dict[str, str]:
    """Each panel's queries by a name."""
    return {
        f"{panel['title']} {target['refId']}": chosen(target["expr"])
        for panel in BOARD["panels"]
        for target in panel.get("targets", ())
    }


def test_every_query_of_the_dashboard_returns_data(prometheus: httpx.Client) -> None:
    empty = queries()
    assert len(empty) > 30

    def all_answered() -> bool:
        for name, query in list(empty.items()):
            found = ask(prometheus, "query", query=query)
            if found is None:
                return False
            if found["result"]:
                del empty[name]
        return not empty

    assert eventually(all_answered, timeout_s=30), empty


def test_the_rules_are_evaluated_and_say_what_was_planted(prometheus: httpx.Client) -> None:
    def pending() -> set[str]:
        alerts = (ask(prometheus, "alerts") or {"alerts": []})["alerts"]
        return {one["labels"]["alertname"] for one in alerts}

    assert eventually(lambda: pending() == {"WorkerDeadLetters", "WorkerGateClosed"}), pending()
    groups = ask(prometheus, "rules")["groups"]
    assert [
        rule["lastError"] for group in groups for rule in group["rules"] if "lastError" in rule
    ] == []


def promtool(*arguments: str | Path, stdin: str = "") -> str:
    done = subprocess.run(
        ["promtool", *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    promtool("test", "rules", RULES / "alerts_test.yml")
    tested = re.findall(r"alertname: (\w+)", (RULES / "alerts_test.yml").read_text())
    assert set(tested) == set(re.findall(r"alert: (\w+)", (RULES / "alerts.yml").read_text()))


def test_the_configuration_in_the_repository_is_one() -> None:
    promtool("check", "config", RULES / "prometheus.yml")


def test_what_is_exposed_follows_the_conventions(seen: Watched) -> None:
    for target in (seen.target, seen.overall):
        promtool("check", "metrics", stdin=scraped(target))
