"""Commands against one running `worker up`, with everything embedded."""

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.cli import Up, invoke, worker, worker_up
from tests.support.processes import eventually, open_folder
from worker.sandbox.folder import running_sandbox

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with open_folder() as folder:
        env = {"SANDBOX_DIR": str(folder / "sandbox")}
        with worker_up("--no-flower", env=env, output=folder / "up.log") as running:
            running.await_text("the service is up")
            yield running
            running.interrupt()
            assert running.exit_code() == 0


def count(up: Up, table: str) -> int:
    url = running_sandbox(Path(up.env["SANDBOX_DIR"]))["DATABASE_URL"]
    with psycopg.connect(url) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


def queues(up: Up) -> dict[str, int]:
    found: dict[str, int] = json.loads(invoke("status", "--json", env=up.env).stdout)["queues"]
    return found


def test_a_message_is_sent_and_its_reply_is_waited_for(up: Up) -> None:
    said = invoke(
        *("send", "--channel", "sms", "--user", "+13125559999", "--text", "Hello", "--wait"),
        "--json",
        env=up.env,
    )
    assert said.returncode == 0, said.stderr
    report = json.loads(said.stdout)
    assert report["outcomes"] == {"answered": 1}
    assert "Hello" in report["reply"]


def test_a_file_sent_again_changes_nothing(up: Up, tmp_path: Path) -> None:
    file = tmp_path / "some.tsv"
    file.write_text("".join(f"ham\tline {n}\n" for n in range(120)))
    send = ("send", "--file", file, "--channel", "sms", "--users", "20", "--wait", "--json")
    before = count(up, "messages")
    first = invoke(*send, env=up.env)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["outcomes"] == {"answered": 120}
    after = {table: count(up, table) for table in ("messages", "turns", "calls", "replies")}
    assert after["messages"] == before + 120
    again = invoke(*send, env=up.env)
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert eventually(lambda: all(n == 0 for n in queues(up).values()))
    assert after == {table: count(up, table) for table in after}
    assert count(up, "messages WHERE conflicts > 0") == 0


def test_a_talk_by_a_pipe_prints_the_replies_and_ends(up: Up) -> None:
    said = worker("chat", "--user", "piper", env=up.env, stdin="Hello there\n\nand [b]more")
    assert said.returncode == 0, said.stderr
    assert "service> " in said.stdout
    assert "Hello there" in said.stdout
    assert "and [b]more" in said.stdout
    assert "\x1b" not in said.stdout


def test_status_counts_and_shows_nothing_that_somebody_wrote(up: Up) -> None:
    invoke(
        *("send", "--channel", "web", "--user", "ann-onymous", "--text", "se-cret", "--wait"),
        env=up.env,
    )
    said = invoke("status", "--json", env=up.env)
    assert said.returncode == 0, said.stderr
    status = json.loads(said.stdout)
    assert status["healthy"] is True
    assert status["problems"] == []
    assert status["revision"] == status["head"]
    assert set(status["queues"]) == {"inbound", "turns", "deliveries", "unacked"}
    assert [one["pid"] for one in status["overview"]["workers"]] == [up.celery_worker()]
    assert status["overview"]["messages"]["answered"] == count(up, "messages")
    deliveries = status["overview"]["deliveries"]
    # What came on `sms` goes out to the simulated phones.
    assert deliveries["kept"] >= 1
    assert sum(deliveries.values()) == count(up, "deliveries")
    screen = invoke("status", env=up.env)
    assert screen.returncode == 0
    assert "healthy" in screen.stdout
    for written in ("ann-onymous", "se-cret", "postgresql", "redis://"):
        assert written not in said.stdout + screen.stdout


def test_a_second_up_in_the_same_folder_says_who_has_it(up: Up) -> None:
    said = worker("up", "--no-flower", env=up.env)
    assert said.returncode == 1
    assert str(up.process.pid) in said.stderr
    assert "SANDBOX_DIR" in said.stderr


def test_the_demo_uses_the_service_that_runs_and_says_which_promise_is_broken(up: Up) -> None:
    before = up.celery_worker()
    kept = worker("demo", env=up.env)
    assert kept.returncode == 0, kept.stdout + kept.stderr
    assert up.celery_worker() == before
    url = running_sandbox(Path(up.env["SANDBOX_DIR"]))["DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE turns SET input_text = 'something else'")
    said = worker("demo", env=up.env)
    assert said.returncode == 1
    assert "✗ Telnyx's side: every input arrived once" in said.stdout
    assert "found a broken promise" in said.stderr
