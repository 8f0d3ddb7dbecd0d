"""Compose file, .env.example and Dockerfile agree with the settings and with each other."""

import re

from tests.support.databases import ROOT
from worker.settings import Settings

COMPOSE = (ROOT / "docker-compose.yml").read_text()


def test_compose_passes_only_settings_that_exist_and_all_of_them() -> None:
    block = COMPOSE.partition("x-settings: &settings\n")[2].partition("\n\n")[0]
    passed = set(re.findall(r"(?m)^  ([A-Z_]+):", block))
    assert passed | {"AGENTS_FILE"} == {name.upper() for name in Settings.model_fields}


def test_the_example_of_env_names_what_compose_reads() -> None:
    read = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE))
    required = set(re.findall(r"\$\{([A-Z_]+):\?", COMPOSE))
    example = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"(?m)^([A-Z_]+)=$", example)) == required
    optional = set(re.findall(r"(?m)^#([A-Z_]+)=", example))
    assert optional <= read
    assert read - required - optional == {"WORKER_IMAGE"}


def test_workers_can_be_scaled_and_may_finish_their_turns() -> None:
    worker = COMPOSE.partition("\n  worker:\n")[2].partition("\n  flower:\n")[0]
    assert "stop_grace_period: 90s" in worker
    assert "container_name" not in worker
    assert "ports:" not in worker


def test_the_image_and_the_makefile_use_the_same_uv() -> None:
    pinned = re.findall(r"(?m)^UV_VERSION := (.*)$", (ROOT / "Makefile").read_text())
    assert re.findall(r"uv==(\S+)", (ROOT / "Dockerfile").read_text()) == pinned
