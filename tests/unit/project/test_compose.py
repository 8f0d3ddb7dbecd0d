"""Compose file, .env.example and Dockerfile agree with the settings and with each other."""

import re
from dataclasses import fields
from typing import Any

import pytest
import yaml

from tests.support.databases import ROOT
from worker.config.settings import Settings

COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
Service = dict[str, Any]
SERVICES: dict[str, Service] = yaml.safe_load(COMPOSE)["services"]
OURS = {name: one for name, one in SERVICES.items() if one.get("build")}


def test_compose_passes_only_settings_that_exist_and_all_of_them() -> None:
    services = ("worker", "gateway", "console", "mailbox")
    given = {name for one in services for name in SERVICES[one]["environment"]}
    passed = {one for one in given if not one.startswith("OTEL_")}
    # Prometheus finds workers by DNS there, not by files.
    assert passed | {"METRICS_FILE_SD_DIR"} == {one.name.upper() for one in fields(Settings)}


def test_the_example_of_env_names_what_compose_reads() -> None:
    read = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE))
    required = set(re.findall(r"\$\{([A-Z_]+):\?", COMPOSE))
    example = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"(?m)^([A-Z_]+)=$", example)) == required
    optional = set(re.findall(r"(?m)^#([A-Z_]+)=", example))
    assert optional <= read
    assert read - required - optional == {"WORKER_IMAGE"}


def test_prometheus_and_grafana_are_started_on_demand_only() -> None:
    profiles = {name: one.get("profiles") for name, one in SERVICES.items()}
    for own in ("mailbox", "console"):
        assert profiles.pop(own) == [own]
    on_demand = {name for name, value in profiles.items() if value == ["observability"]}
    assert on_demand == {"metrics", "prometheus", "grafana"}
    assert {value for name, value in profiles.items() if name not in on_demand} == {None}
    needed = {name for one in SERVICES.values() for name in one.get("depends_on", ())}
    assert needed & on_demand == {"prometheus"}, "and nobody else needs one of them"


def test_ports_are_published_to_this_host_alone() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", ()):
            assert re.fullmatch(r"\$\{[A-Z]+_LISTEN:-127\.0\.0\.1:\d+\}:\d+", port)


def test_what_is_mounted_is_in_the_repository() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0] if isinstance(volume, str) else ""
            assert not source.startswith("./") or (ROOT / source).is_dir()


def test_prometheus_is_sent_to_the_ports_that_the_services_have() -> None:
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    overall, workers = scraped["scrape_configs"]
    port = SERVICES["metrics"]["command"][-1]
    assert overall["static_configs"] == [{"targets": [f"metrics:{port}"]}]
    (found,) = workers["dns_sd_configs"]
    assert found["names"] == ["worker", "gateway", "mailbox"]
    for name in found["names"]:
        assert SERVICES[name]["environment"]["METRICS_PORT"] == str(found["port"])


def test_workers_can_be_scaled_and_may_finish_their_turns() -> None:
    worker = SERVICES["worker"]
    assert worker["stop_grace_period"] == "90s"
    assert not {"container_name", "ports"} & set(worker)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_write_nowhere_has_no_rights_and_limits(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert str(service["user"]) not in {"0", "root"}
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_health_check_unless_it_runs_once(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    if SERVICES[name]["restart"] == "no":
        assert check == {"disable": True}
    else:
        assert set(check) == {"test", "interval", "timeout", "retries", "start_period"}


@pytest.mark.parametrize("name", OURS)
def test_our_services_run_as_the_user_of_the_image(name: str) -> None:
    assert re.findall(r"(?m)^USER (.*)$", DOCKERFILE) == [OURS[name]["user"]]


def test_flower_is_given_no_secret_but_its_own_and_the_brokers() -> None:
    given = SERVICES["flower"]["environment"]
    for name in ("DATABASE_URL", "LISTEN_DATABASE_URL", "TELNYX_API_KEY"):
        assert "not-needed" in given[name]
    assert ":?" in given["FLOWER_BASIC_AUTH"]


def test_the_image_and_the_makefile_use_the_same_uv() -> None:
    pinned = re.findall(r"(?m)^UV_VERSION := (.*)$", (ROOT / "Makefile").read_text())
    assert re.findall(r"uv==(\S+)", DOCKERFILE) == pinned
