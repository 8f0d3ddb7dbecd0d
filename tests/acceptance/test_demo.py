"""The first thing a newcomer runs."""

from email import message_from_bytes
from pathlib import Path

import pytest

from tests.support.cli import pids_with, worker

pytestmark = pytest.mark.slow


def test_the_demo_keeps_its_promises_twice_in_a_row_and_leaves_no_process(
    sandbox_dir: Path,
) -> None:
    for conversation_grows in ("your first message", "message 2 of our"):
        # Somebody's own servers are configured, and a demo never touches them.
        env = {"SANDBOX_DIR": str(sandbox_dir), "DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}
        said = worker("demo", env=env)
        assert said.returncode == 0, said.stdout + said.stderr
        assert conversation_grows in said.stdout
        assert "All promises were kept" in said.stdout
        assert "worker up" in said.stdout
        assert "✗" not in said.stdout
        assert "\x1b" not in said.stdout
        assert pids_with(str(sandbox_dir)) == set()


def test_a_phone_in_the_terminal_is_answered_and_after_stop_it_is_not(sandbox_dir: Path) -> None:
    env = {"SANDBOX_DIR": str(sandbox_dir)}
    said = worker("chat", "--sms", env=env, stdin="Hello\n")
    assert said.returncode == 0, said.stdout + said.stderr
    assert 'You said "Hello"' in said.stdout
    said = worker("chat", "--sms", env=env, stdin="STOP\n")
    assert "no reply: opt_out" in said.stdout
    said = worker("chat", "--sms", env=env, stdin="Hello?\n")
    assert "no reply: opted_out" in said.stdout
    assert pids_with(str(sandbox_dir)) == set()


def test_a_mail_program_in_the_terminal_is_answered_in_its_thread(sandbox_dir: Path) -> None:
    env = {"SANDBOX_DIR": str(sandbox_dir)}
    said = worker("chat", "--mail", env=env, stdin="Where is my order?\n")
    assert said.returncode == 0, said.stdout + said.stderr
    assert 'You said "Subject: A question Where is my order?"' in said.stdout
    (mail,) = (sandbox_dir / "mails").glob("*.eml")
    written = message_from_bytes(mail.read_bytes())
    assert written["From"] == '"Example Shop (AI assistant)" <help@example.com>'
    assert written["To"] == "you@example.org"
    assert written["In-Reply-To"] == written["References"] != ""
    env |= {"SMTP_URL": "smtp://127.0.0.1:1?plain=true"}
    said = worker("chat", "--mail", env=env, stdin="Hello?\n")
    assert said.stderr == (
        "worker: mails leave by SMTP_URL: use your own mail program, or unset it\n"
    )
    assert pids_with(str(sandbox_dir)) == set()
