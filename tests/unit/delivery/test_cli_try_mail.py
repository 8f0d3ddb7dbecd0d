"""`worker channels try mail.eml`: what becomes of a mail, without any server."""

import json
from pathlib import Path
from typing import Any

from tests.support.cli import Said, invoke
from tests.support.databases import ROOT
from worker.channels.email.parse import parse_mail

AGENTS = """
[agents.default]
model = "m/default"
[agents.shop]
model = "m/shop"
[channels.email]
driver = "smtp"
[channels.email.mail]
addresses = ["support@shop.example"]
name = "The shop (AI assistant)"
[channels.email.recipients]
"support@shop.example" = "shop"
"""
MAILS = ROOT / "tests" / "fixtures" / "mails"


def tried(folder: Path, mail: Path, *options: str) -> Said:
    (folder / "agents.toml").write_text(AGENTS)
    env = {"AGENTS_FILE": str(folder / "agents.toml"), "SANDBOX_DIR": str(folder / "none")}
    return invoke("channels", "try", mail, *options, env=env)


def facts(folder: Path, name: str, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        tried(folder, MAILS / f"{name}.eml", "--json", *options).stdout
    )
    return found


def test_a_reply_is_answered_in_its_thread_and_its_quotes_are_counted(tmp_path: Path) -> None:
    found = facts(tmp_path, "reply-gmail", "--reply", "Yes, **until** five.")
    assert (found["verdict"], found["agent"], found["left_out"]) == ("answered", "shop", 9)
    assert found["text"].startswith("Thanks, that helps. Can I change the address?\n\n[9 lines")
    mail = parse_mail(found["mail"].encode())
    assert mail.references[-1] == "<reply-gmail@mail.example.org>"
    assert mail.references[:2] == ("<first@mail.example.org>", "<x1@shop.example>")
    assert (mail.subject, mail.to[0].address) == ("Re: Where is my order?", "ada@example.org")
    assert mail.sender is not None
    assert mail.sender.name == "The shop (AI assistant)"
    assert "<strong>until</strong>" in mail.html


def test_a_machine_gets_no_answer_and_the_rule_is_named(tmp_path: Path) -> None:
    hard = facts(tmp_path, "bounce-dsn", "--reply", "Yes")
    assert (hard["verdict"], hard["rule"], hard["tier"]) == ("skipped", "report", "hard")
    assert (hard["text"], hard["mail"]) == (None, None)
    assert "channel_user" not in hard, "nobody becomes a user"
    soft = facts(tmp_path, "list-list-id")
    assert (soft["why"], soft["rule"], soft["tier"]) == ("bulk", "list", "soft")
    assert soft["channel_user"]["address"] == "ada@example.org"


def test_lines_are_labelled(tmp_path: Path) -> None:
    said = tried(tmp_path, MAILS / "human-pdf.eml", "--reply", "No.").stdout
    assert "attachment    invoice.pdf, application/pdf, 9 bytes, mentioned" in said
    assert "model gets    Subject: Where is my order?" in said
    assert "left out      0 lines (whole)" in said
    assert "mail          Auto-Submitted: auto-replied" in said
    refused = tried(tmp_path, MAILS / "bounce-dsn.eml").stdout
    assert "never answered, and nobody becomes a user: outcome bounce, rule report" in refused
