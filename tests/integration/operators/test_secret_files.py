"""Secrets in files, as commands and Flower read them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import bare_env, invoke
from tests.support.secret_files import GIVEN, OTHERS, in_files
from worker.cli.local.service import FlowerAt
from worker.domain.errors import SettingsError

FLOWERS_AUTH = "import worker.celery, os; print(os.environ['FLOWER_BASIC_AUTH'])"


def test_the_doctor_says_which_secret_comes_from_a_file_and_which_file_is_wrong(
    tmp_path: Path,
) -> None:
    env = in_files(tmp_path, "DATABASE_URL", "BROKER_URL") | OTHERS
    (tmp_path / "DATABASE_URL").write_text("postgresql://w:canary@127.0.0.1:1/w?connect_timeout=1")
    (tmp_path / "BROKER_URL").unlink()
    nowhere = {"TELNYX_BASE_URL": "http://127.0.0.1:1", "FLOWER_URL": "http://127.0.0.1:1"}
    said = invoke("doctor", "--json", env=env | nowhere)
    lines = {line["name"]: line for line in json.loads(said.stdout)["checks"]}
    assert lines["DATABASE_URL"]["found"] == "from the file that DATABASE_URL_FILE names"
    assert lines["TELNYX_API_KEY"]["found"] == "set"
    assert lines["BROKER_URL"]["level"] == "fault"
    assert "BROKER_URL_FILE" in lines["BROKER_URL"]["fix"]
    assert "canary" not in said.stdout + said.stderr
    assert str(tmp_path) not in said.stdout + said.stderr


def test_flower_finds_its_name_and_password_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "auth").write_text("ops:canary\n")
    in_file = {"FLOWER_BASIC_AUTH_FILE": str(tmp_path / "auth")}
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", FLOWERS_AUTH],
        env=bare_env(**in_files(tmp_path, *GIVEN), **OTHERS, **in_file),
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout == "ops:canary\n", said.stderr


def test_up_finds_flowers_name_and_password_in_a_file_or_names_it(tmp_path: Path) -> None:
    auth = tmp_path / "auth"
    auth.write_text("ops:canary\n")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("FLOWER_BASIC_AUTH", raising=False)
        environment.setenv("FLOWER_BASIC_AUTH_FILE", str(auth))
        chosen = FlowerAt.chosen(0)
        auth.unlink()
        with pytest.raises(SettingsError, match="the file that FLOWER_BASIC_AUTH_FILE names"):
            FlowerAt.chosen(0)
    assert (chosen.user, chosen.password, chosen.generated) == ("ops", "canary", False)
