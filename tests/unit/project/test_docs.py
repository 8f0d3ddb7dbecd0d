"""Names, commands, settings and links in README, docs and examples are correct."""

import dataclasses
import json
import re
import shlex
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from message_worker_client.envelope import Envelope, EnvelopeAttachment, parse_envelope
from tests.support import screening_page
from tests.support.databases import ROOT
from tests.support.pages import DOCS_PAGES, PAGES, blocks_of, fences, name_of
from worker.cli.app import app as command_line
from worker.config.agents_file import AgentSection, AgentsFile, load_agents
from worker.config.channels import (
    ChannelSection,
    DeliverySection,
    MailSection,
    ScreeningSection,
    TelnyxSection,
)
from worker.config.sections import BudgetSection, FairnessSection, LimitsSection, ToolSection
from worker.config.settings import Settings
from worker.domain.reasons import DeadLetterReason
from worker.domain.timing import Timing
from worker.store.schema import Base

DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
GROUP: Any = typer.main.get_command(command_line)
GROUP.get_command(None, "")  # a name that does not exist imports all


def table_under(page: str, heading: str) -> dict[str, list[str]]:
    """Return the first table after a heading: rows by the names in backticks in the first cell."""
    text = ("\n" + (ROOT / page).read_text()).partition(f"\n{heading}\n")[2]
    rows = {}
    for line in text[text.index("\n|") + 1 :].partition("\n\n")[0].splitlines()[2:]:
        first, *others = re.split(r"\s*\|\s*", line.strip("| "))
        for name in re.findall(r"`([^`]+)`", first):
            rows[name] = others
    return rows


# --- links -------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"(?m)^#+ (.*)$", file.read_text())
            slugs = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
            assert anchor in slugs, target


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {str(page.relative_to(ROOT / "docs")) for page in DOCS_PAGES}
    assert {page for page in pages if f"({page})" not in index} == {"README.md"}


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_has_its_three_parts_and_is_short(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"(?m)^## (.*)$", text) == ["Context", "Decision", "Consequences"]
    assert text.startswith(f"# {int(page.name[:4])}. ")
    assert len(text.splitlines()) <= 40


# --- commands ----------------------------------------------------------------------------------

_COMMAND = re.compile(
    r"(?m)^(?:docker compose (?:exec|run --rm) worker )?(?:\.venv/bin/)?worker (.+)$"
)


def commands_in(page: Path) -> dict[str, None]:
    text = page.read_text()
    shown = [one for block in blocks_of(text, "sh") for one in _COMMAND.findall(block)]
    return dict.fromkeys(shown + re.findall(r"`worker ([^`\n]+)`", text))


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(shown, id=f"{name_of(page)}: worker {shown}")
        for page in PAGES
        for shown in commands_in(page)
    ],
)
def test_every_command_and_option_shown_exists(shown: str) -> None:
    words = shlex.split(shown, comments=True)
    known = {"--help", "-h"} | {name for one in GROUP.params for name in one.opts}
    if not words[0].startswith("-"):
        assert words[0] in GROUP.commands
        command = GROUP.commands[words[0]]
        if words[1:] and words[1] in getattr(command, "commands", ()):
            command = command.commands[words[1]]
        known |= {name for one in command.params for name in one.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known


def test_every_log_event_shown_exists() -> None:
    shown = set(table_under("docs/how-to/read-the-logs.md", "## Events"))
    source = "".join(file.read_text() for file in (ROOT / "worker").rglob("*.py"))
    assert {event for event in shown if f'"{event}' not in source} == set()


def test_readme_lists_every_command() -> None:
    listed = {name.removeprefix("worker ") for name in table_under("README.md", "## Commands")}
    assert listed == set(GROUP.commands)


def test_every_make_target_shown_exists() -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))
    for page in PAGES:
        text = page.read_text()
        shown = re.findall(r"(?m)`make ([a-z]+)`|^make ([a-z]+)$", text)
        assert {one or other for one, other in shown} <= targets, page


# --- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "heading"),
    [("README.md", "## Settings"), ("docs/reference/settings.md", "## Environment")],
)
def test_the_table_of_settings_is_whole_and_its_defaults_are_true(page: str, heading: str) -> None:
    shown = {name: row[0].strip("`") for name, row in table_under(page, heading).items()}
    real = {
        one.name.upper(): "" if one.default in {None, MISSING} else spelled(one.default)
        for one in fields(Settings)
    }
    assert shown == real


def spelled(default: object) -> str:
    """Return a default as it is written in the environment."""
    return str(default).lower() if isinstance(default, bool) else str(default)


@pytest.mark.parametrize(
    ("heading", "section"),
    [
        ("## The agents file", AgentsFile),
        ("### `[agents.NAME]`", AgentSection),
        ("### `[agents.NAME.budget]`", BudgetSection),
        ("### `[channels.NAME]`", ChannelSection),
        ("### `[channels.NAME.delivery]`", DeliverySection),
        ("### `[channels.NAME.telnyx]`", TelnyxSection),
        ("### `[channels.NAME.mail]`", MailSection),
        ("### `[channels.NAME.screening]`", ScreeningSection),
        ("### `[tools.NAME]`", ToolSection),
        ("### `[limits]`", LimitsSection),
        ("### `[fairness]`", FairnessSection),
    ],
)
def test_the_tables_of_the_agents_file_are_whole_and_true(
    heading: str, section: type[BaseModel]
) -> None:
    shown = {
        name: row[0].strip("`")
        for name, row in table_under("docs/reference/settings.md", heading).items()
    }
    assert set(shown) == set(section.model_fields)
    for name, default in shown.items():
        if default:
            real = section.model_fields[name].get_default(call_default_factory=True)
            assert json.loads(default) == real, name


def test_the_table_of_waits_is_whole_and_true() -> None:
    shown = {
        name: float(row[0].strip("`"))
        for name, row in table_under("docs/reference/settings.md", "### `[timing]`").items()
    }
    assert shown == {field.name: field.default for field in dataclasses.fields(Timing)}


@pytest.mark.parametrize("example", fences("toml"))
def test_every_agents_file_shown_loads(example: str, tmp_path: Path) -> None:
    for name in re.findall(r'instructions_file = "(.*)"', example):
        (tmp_path / name).write_text("Be brief.")
    (tmp_path / "agents.toml").write_text(example)
    load_agents(tmp_path / "agents.toml")


def test_the_commented_agents_file_loads_and_shows_both_kinds_of_section() -> None:
    routing, _ = load_agents(ROOT / "examples" / "agents.toml")
    assert len(routing.agents) > 1
    assert {policy.kind for policy in routing.channels.values()} >= {"telephone", "email"}


# --- envelope and tables -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "model"),
    [("# The envelope, version 1", Envelope), ("## Attachments", EnvelopeAttachment)],
)
def test_the_tables_of_the_envelope_are_whole_and_true(
    heading: str, model: type[BaseModel]
) -> None:
    shown = table_under("docs/reference/envelope.md", heading)
    assert set(shown) == set(model.model_fields)
    required = {name for name, row in shown.items() if row[0] == "yes"}
    assert required == {name for name, field in model.model_fields.items() if field.is_required()}


def test_every_reason_of_a_dead_letter_is_explained() -> None:
    text = (ROOT / "docs/reference/envelope.md").read_text().partition("## What is not an")[2]
    assert set(re.findall(r"(?m)^\| `(\w+)` \|", text)) == set(DeadLetterReason)


@pytest.mark.parametrize("example", fences("json"))
def test_every_envelope_shown_is_one(example: str) -> None:
    parse_envelope(json.loads(example))


def test_the_page_of_screening_is_made_of_its_rules() -> None:
    assert screening_page.page() == screening_page.PAGE.read_text(), "run `make reference`"


def test_the_page_of_tables_names_what_there_is() -> None:
    text = (ROOT / "docs/reference/tables.md").read_text().partition("## Useful queries")[0]
    tables = {name: set(table.columns.keys()) for name, table in Base.metadata.tables.items()}
    named = set()
    for heading, body in re.findall(r"(?m)^## (.*)\n((?:(?!^## ).*\n)*)", text):
        here = [name for name in re.findall(r"\w+", heading.partition(":")[0]) if name in tables]
        named |= set(here)
        for row in re.findall(r"(?m)^\| (.*?) \|", body):
            for word in re.findall(r"`([^`]+)`", row):
                table, _, column = word.rpartition(".")
                if heading == "Others":
                    named.add(word)
                else:
                    assert column in tables[table or here[0]], word
    assert named == set(tables)


# --- snippets, run -----------------------------------------------------------------------------
