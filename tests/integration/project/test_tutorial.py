"""The tutorials, word by word: their blocks of code in two terminals that have nothing else."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.parts import free_port
from tests.support.cli import bare_env, descendants
from tests.support.databases import ROOT
from tests.support.dovecot import Account, Dovecot
from tests.support.mails import mail_of
from tests.support.pages import blocks_of
from tests.support.processes import eventually, is_running, open_folder
from tests.support.smtp_server import USER, Mailbox, smtp_server
from worker.cli.local.phone import OUR_NUMBER
from worker.sandbox.simulator.endpoints.messaging.receiving import InboundSms
from worker.sandbox.simulator.serving.simulator import running_simulator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # it fills an environment

BLOCKS = blocks_of((ROOT / "docs/tutorial/first-steps.md").read_text(), "sh")
SMS = blocks_of((ROOT / "docs/tutorial/sms-auto-responder.md").read_text(), "sh")
MAIL = blocks_of((ROOT / "docs/tutorial/email-auto-responder.md").read_text(), "sh")
UP = BLOCKS.index("worker up\n")
ADDRESS = "https://your-address.example.com"
PHONE = "+13125550001"
START_OVER = BLOCKS.index("rm -r .sandbox\n")


@dataclass(frozen=True)
class Terminal:
    """A shell that runs blocks and stops at the first that fails."""

    process: subprocess.Popen[bytes]
    output: Path

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def await_text(self, text: str) -> None:
        ended = self.process.poll
        eventually(lambda: text in self.text() or ended() is not None, timeout_s=120)
        shown = self.text()
        assert text in shown, shown

    def await_end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(120) == 0, self.text()


@contextmanager
def terminal(home: Path, name: str, blocks: list[str]) -> Iterator[Terminal]:
    """Open one in the checkout, as the home folder's owner."""
    script, output = (home / f"{name}.{end}" for end in ("sh", "out"))
    script.write_text("\n".join(blocks))
    ours = ("VIRTUAL_ENV", "UV_", "PYTHONDONTWRITEBYTECODE", "WHEELS")
    kept = {one: value for one, value in bare_env().items() if not one.startswith(ours)}
    kept["PATH"] = os.pathsep.join(one for one in os.get_exec_path() if ".venv" not in one)
    with output.open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-e", script],
            cwd=ROOT,
            env=kept | {"HOME": str(home)},
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Terminal(process, output)
    finally:
        for pid in descendants(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()


def test_the_tutorial_word_by_word() -> None:
    first = [*BLOCKS[: UP + 1], *BLOCKS[START_OVER:]]
    with open_folder() as home, terminal(home, "first", first) as up:
        up.await_text("the service is up")
        up.await_text("  .venv/bin/worker chat\n")
        assert "accepted once, answered once" in up.text()
        with terminal(home, "second", BLOCKS[UP + 1 : START_OVER]) as second:
            second.type("Are you open?\n")
            second.await_end()
            said = second.text()
        assert 'service> Thanks for writing! You said "Are you open?"' in said
        numbers = re.findall(r"(?m)^message (\d+): Thanks for writing!", said)
        assert len(numbers) == 2
        assert len(set(numbers)) == 1
        assert f"message {numbers[0]} of channel user" in said, "worker why"
        assert "healthy" in said
        assert said.count("order-1 | answered | Thanks") == 1
        with terminal(home, "third", [f"cd {home}/first-steps", *commands_in(up.text())]) as third:
            third.await_end()
        started = descendants(up.process.pid)
        os.killpg(up.process.pid, signal.SIGINT)
        up.await_end()
        assert not any(map(is_running, started))
        assert not (home / "first-steps/.sandbox").exists()


def test_the_tutorial_of_text_messages_word_by_word() -> None:
    start = SMS.index("worker up\n")
    real = next(number for number, block in enumerate(SMS) if "export TELNYX" in block)
    with open_folder() as home:
        # The first tutorial installs it; here it is that of the checkout.
        (home / "first-steps").mkdir()
        (home / "first-steps" / ".venv").symlink_to(ROOT / ".venv")
        entered = ". ~/first-steps/.venv/bin/activate"
        with terminal(home, "first", [entered, *SMS[: start + 1]]) as up:
            up.await_text("the service is up")
            assert 'an AI assistant.\\nYes, until five!"' in up.text()
            assert "outcome opt_out, rule revocation" in up.text()
            with terminal(home, "second", SMS[start + 1 : real]) as second:
                converse(second)
                said = second.text()
            assert "message 1 of channel user 1 on sms" in said
            assert "receipt delivered" in said
            os.killpg(up.process.pid, signal.SIGINT)
            up.await_end()
        with running_simulator() as telnyx:
            address = f"http://127.0.0.1:{free_port()}"
            telnyx.reconfigure(webhook_url=f"{address}/telnyx/messaging")
            with_account = [
                block.replace("KEY...", telnyx.api_key).replace(ADDRESS, address)
                for block in SMS[real:]
            ]
            again = [entered, *SMS[:2], f"export TELNYX_BASE_URL={telnyx.base_url}"]
            with terminal(home, "third", [*again, with_account[0]]) as up:
                up.await_text("the service is up")
                with terminal(home, "fourth", [*again, with_account[1]]) as fourth:
                    fourth.await_end()
                telnyx.receive_sms(InboundSms(sender=PHONE, recipient=OUR_NUMBER, text="Hello?"))
                assert eventually(lambda: "outbound" in {one.direction for one in telnyx.sms()})


def test_the_tutorial_of_mails_word_by_word(mail_server: Dovecot) -> None:
    start, mailed = MAIL.index("worker up\n"), MAIL.index("worker mail-in < question.eml\n")
    real = next(number for number, block in enumerate(MAIL) if "export SMTP_URL" in block)
    entered = ". ~/first-steps/.venv/bin/activate"
    there = MAIL[start + 1].replace("worker chat --mail\n", "")
    with open_folder() as home:
        (home / "first-steps").mkdir()
        (home / "first-steps" / ".venv").symlink_to(ROOT / ".venv")
        mails = home / "mail-shop/.sandbox/mails"
        with terminal(home, "first", [entered, *MAIL[: start + 1]]) as up:
            up.await_text("not sent, kept in .sandbox/mails")
            assert "Subject: Re: Opening hours" in up.text()
            assert "never answered, and nobody becomes a user: outcome auto_reply" in up.text()
            with terminal(home, "second", MAIL[start + 1 : mailed + 1]) as second:
                for text, shown in (
                    ("Are you open?", 'You said "Subject: A question Are you open?"'),
                    ("And on Sunday?", 'You said "And on Sunday? [5 lines of earlier mails'),
                    ("please unsubscribe me", "no reply: opt_out"),
                ):
                    second.type(f"{text}\n")
                    second.await_text(shown)
                second.await_end()
            assert eventually((mails / "0003.eml").exists)
            with terminal(home, "third", [there, *MAIL[mailed + 1 : real]]) as third:
                third.await_end()
            assert "In-Reply-To: <1@example.org>" in third.text()
            assert "message 1 of channel user 1 on email" in third.text()
            os.killpg(up.process.pid, signal.SIGINT)
            up.await_end()
        use_own_mailbox(home, mail_server.account(), there, MAIL[real : real + 2])


def use_own_mailbox(home: Path, account: Account, there: str, blocks: list[str]) -> None:
    box = Mailbox()
    question = mail_of(to=USER, sender="ada@example.org")
    with running_simulator() as telnyx, smtp_server(box) as port:
        ours = {
            r"smtp://[^\"]*": f"smtp://127.0.0.1:{port}?plain=true",
            r"imaps://[^\"]*": account.url,
            r"KEY\.\.\.": telnyx.api_key,
        }
        for pattern, text in ours.items():
            blocks = [re.sub(pattern, text, block) for block in blocks]
        again = [there, f"export TELNYX_BASE_URL={telnyx.base_url}"]
        with terminal(home, "fourth", [*again, blocks[0]]) as up:
            up.await_text("the mailbox of IMAP_URL")
            up.await_text("mailbox.started")
            with terminal(home, "fifth", [*again, blocks[1]]) as doctor:
                doctor.await_end()
            assert "logged in, it takes mails from us" in doctor.text()
            assert "logged in, the folder is there" in doctor.text()
            assert "authserv_id is not set" in doctor.text()
            account.append(question)
            assert eventually(lambda: bool(box.mails), timeout_s=90), up.text()
    (answer,) = box.parsed()
    assert (answer["From"].addresses[0].addr_spec, answer["To"]) == (USER, "ada@example.org")


def converse(phone: Terminal) -> None:
    for text, shown in (
        ("Are you open?", 'assistant.\n         Thanks for writing! You said "Are you open?"'),
        ("info", "service> Example Shop: write to help@example.com"),
        ("STOP", "no reply: opt_out\n"),
        ("Hello?", "no reply: opted_out\n"),
        ("START", "no reply: opt_in\n"),
        ("And tomorrow?", 'service> Thanks for writing! You said "And tomorrow?"'),
    ):
        # One after the other, as people do: STOP would cancel a question before it.
        phone.type(f"{text}\n")
        phone.await_text(shown)
    phone.await_end()


def commands_in(printed: str) -> list[str]:
    """Return what demo and banner print to be typed, but for the service that runs already."""
    found = re.findall(r"(?m)^  (\.venv/bin/worker .*)$", printed)
    assert {one.split()[1] for one in found} == {"chat", "up", "send", "status", "schema"}
    return [one for one in dict.fromkeys(found) if not one.endswith(" up")]
