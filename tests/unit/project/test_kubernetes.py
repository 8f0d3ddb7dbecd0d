"""The manifests of deploy/kubernetes fit the settings, the image, and each other."""

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.support.databases import ROOT, fresh_database
from worker.config.agents_file import load_agents
from worker.config.settings import SECRETS, Settings
from worker.sandbox.postgres import EmbeddedPostgres

Manifest = dict[str, Any]
MANIFESTS: list[Manifest] = [
    manifest
    for file in sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(file.read_text())
]
SECRET_FILES = {f"{name.upper()}_FILE" for name in SECRETS} | {"FLOWER_BASIC_AUTH_FILE"}
KNOWN = {one.name.upper() for one in fields(Settings)} | SECRET_FILES | {"FLOWER_PORT"}


def manifest(kind: str, name: str) -> Manifest:
    (found,) = [one for one in MANIFESTS if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


PODS = [
    pytest.param(manifest(*of)["spec"]["template"]["spec"], id=of[1])
    for of in (
        *(
            ("Deployment", name)
            for name in (
                "worker",
                "worker-flower",
                "worker-gateway",
                "worker-console",
                "worker-mailbox",
            )
        ),
        ("Job", "worker-migrate"),
    )
]
QUERY: str = manifest("ScaledObject", "worker")["spec"]["triggers"][0]["metadata"]["query"]


def env_of(container: Manifest) -> dict[str, str]:
    given = {one["name"]: one["value"] for one in container["env"]}
    for source in container.get("envFrom", ()):
        given |= manifest("ConfigMap", source["configMapRef"]["name"])["data"]
    return given


@pytest.mark.parametrize("pod", PODS)
def test_every_variable_of_a_pod_is_a_setting_and_none_is_a_secret(pod: Manifest) -> None:
    (container,) = pod["containers"]
    given = env_of(container)
    assert set(given) <= KNOWN
    in_the_open = {name: given[name] for name in given if f"{name}_FILE" in SECRET_FILES}
    assert all("not-needed" in value for value in in_the_open.values())


@pytest.mark.parametrize("pod", PODS)
def test_every_file_that_a_variable_names_is_mounted(pod: Manifest) -> None:
    (container,) = pod["containers"]
    folders = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    mounted = set()
    for volume in pod["volumes"]:
        if secret := volume.get("secret"):
            kept = manifest("Secret", secret["secretName"])["stringData"]
            assert {one["key"] for one in secret["items"]} <= set(kept)
            mounted |= {f"{folders[volume['name']]}/{one['path']}" for one in secret["items"]}
        elif config := volume.get("configMap"):
            kept = manifest("ConfigMap", config["name"])["data"]
            mounted |= {f"{folders[volume['name']]}/{name}" for name in kept}
    named = {value for name, value in env_of(container).items() if name.endswith("_FILE")}
    assert named == mounted


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_runs_with_no_rights_and_within_limits(pod: Manifest) -> None:
    (container,) = pod["containers"]
    user = re.findall(r"(?m)^USER (\d+)$", (ROOT / "Dockerfile").read_text())
    assert [str(pod["securityContext"]["runAsUser"])] == user
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod["automountServiceAccountToken"]
    assert not pod["enableServiceLinks"], "a service called flower would set FLOWER_PORT"
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    mounts = {one["name"]: one for one in container["volumeMounts"]}
    for volume in pod["volumes"]:
        writable = "emptyDir" in volume
        assert mounts[volume["name"]].get("readOnly", False) is not writable
        assert writable is (mounts[volume["name"]]["mountPath"] == "/tmp")  # noqa: S108


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_has_this_versions_image(pod: Manifest) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert pod["containers"][0]["image"] == f"worker:{version}"


def test_a_worker_is_asked_for_its_health_and_may_finish_its_turns() -> None:
    deployment = manifest("Deployment", "worker")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["exec"] == {"command": ["worker", "health"]}
    command = f"CMD {json.dumps(container['command'])}\n"
    assert (ROOT / "Dockerfile").read_text().endswith(command)
    assert pod["terminationGracePeriodSeconds"] == 90
    assert "lifecycle" not in container
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    budget = manifest("PodDisruptionBudget", "worker")["spec"]
    assert budget["selector"]["matchLabels"] == labels


def test_the_agents_of_the_config_map_load(tmp_path: Path) -> None:
    file = tmp_path / "agents.toml"
    file.write_text(manifest("ConfigMap", "worker-agents")["data"]["agents.toml"])
    assert load_agents(file)[0].agents


# --- what KEDA asks ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(shared_postgres: EmbeddedPostgres) -> Iterator[psycopg.Connection]:
    with (
        fresh_database(shared_postgres) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        yield connection


def waited_s(database: psycopg.Connection) -> int:
    (row,) = database.execute(QUERY).fetchall()
    (value,) = row
    assert isinstance(value, int)
    return value


def test_keda_is_told_how_long_the_oldest_due_user_waits_for_a_worker(
    database: psycopg.Connection,
) -> None:
    assert waited_s(database) == 0
    database.execute(
        "INSERT INTO channel_users (channel, address, due_at, diverged_at)"
        " SELECT 'web', n::text, service_now() - make_interval(secs => age), diverged"
        " FROM (VALUES (1, 30, NULL), (2, -60, NULL), (3, 999, service_now()))"
        " AS planted (n, age, diverged)"
    )
    assert waited_s(database) in {30, 31}
    database.execute(
        "INSERT INTO workers (id, host, pid, alive_until)"
        " VALUES (gen_random_uuid(), 'here', 1, service_now() + interval '1 min')"
    )
    database.execute(
        "UPDATE channel_users SET lease_owner = workers.id,"
        " lease_until = service_now() + interval '1 min' FROM workers WHERE address = '1'"
    )
    assert waited_s(database) == 0, "somebody works on it"
    database.execute("UPDATE channel_users SET lease_until = service_now() - interval '1 s'")
    assert waited_s(database) in {30, 31}, "whoever worked on it is gone"


def test_an_index_answers_keda_among_many_users(database: psycopg.Connection) -> None:
    database.execute(
        "INSERT INTO channel_users (channel, address, due_at)"
        " SELECT 'web', 'idle-' || n, CASE WHEN n % 100 = 0 THEN service_now() END"
        " FROM generate_series(1, 20000) AS n"
    )
    database.execute("ANALYZE channel_users")
    plan = "\n".join(row[0] for row in database.execute(f"EXPLAIN {QUERY}".encode()).fetchall())
    assert "Index Scan using ix_channel_users_due_at" in plan
    assert not re.search("Seq Scan|Sort", plan)
