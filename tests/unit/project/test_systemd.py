"""The units of deploy/systemd fit the settings, and systemd takes them."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from tests.support.databases import ROOT
from worker.config.settings import SECRETS, Settings

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
WORKER = ROOT / "deploy" / "systemd" / "worker.service"
SECRET_NAMES = {name.upper() for name in SECRETS} | {"FLOWER_BASIC_AUTH"}
FLOWERS = {"FLOWER_ADDRESS", "FLOWER_PORT"}
KNOWN = {one.name.upper() for one in fields(Settings)} | FLOWERS

by_name = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)


def values(unit: Path, name: str) -> list[str]:
    return re.findall(rf"(?m)^{name}=(.*)$", unit.read_text())


def environment(unit: Path) -> dict[str, str]:
    pairs = " ".join(values(unit, "Environment")).split()
    return dict(pair.split("=", 1) for pair in pairs)


@by_name
def test_every_variable_of_a_unit_is_a_setting_and_secrets_are_credentials(unit: Path) -> None:
    given = environment(unit)
    in_files = {
        name.removesuffix("_FILE"): given.pop(name) for name in list(given) if "%d" in given[name]
    }
    assert set(in_files) <= SECRET_NAMES
    assert set(given) <= KNOWN | {"GLIBC_TUNABLES"}, "or one of the C library"
    assert all("not-needed" in given[name] for name in SECRET_NAMES & set(given))
    loaded = {one.partition(":")[0] for one in values(unit, "LoadCredential")}
    assert {path.removeprefix("%d/") for path in in_files.values()} == loaded


@by_name
def test_a_unit_runs_as_nobody_in_particular_and_can_write_nowhere(unit: Path) -> None:
    for name, value in {
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "CapabilityBoundingSet": "",
        "Restart": "always",
        "KillSignal": "SIGTERM",
    }.items():
        assert values(unit, name) == [value], name
    assert not values(unit, "ReadWritePaths")
    assert all(values(unit, limit) for limit in ("MemoryMax", "CPUQuota", "TasksMax"))


def test_a_worker_may_finish_its_turns() -> None:
    assert values(WORKER, "TimeoutStopSec") == ["90"]
