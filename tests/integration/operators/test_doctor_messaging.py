"""`worker doctor` on text messages: a good profile is fine, and each planted fault is found."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.world import NAMESPACE
from worker.cli.doctor.doctor import MESSAGING
from worker.cli.doctor.examine import Check, Setup, examine
from worker.config.agents_file import load_agents
from worker.config.settings import Settings
from worker.domain.reports.finding import Finding, Level
from worker.sandbox.simulator import Simulator, SimulatorConfig

PUBLIC_URL = "https://sms.example.com"
WORDS = ("REVOKE", "OPT OUT", "OPTOUT")
CHECKS = tuple(Check(one.group, one.name, one.look) for one in MESSAGING)


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(SimulatorConfig()) as running:
        yield running


@pytest.fixture
def setup(simulator: Simulator, tmp_path: Path) -> Setup:
    simulator.reconfigure(
        webhook_url=f"{PUBLIC_URL}/telnyx/messaging",
        profile={},
        profile_numbers=["+13125550100"],
        profile_keywords=list(WORDS),
        campaign_status="ASSIGNED",
    )
    agents = tmp_path / "agents.toml"
    agents.write_text('[channels.sms]\ndriver = "telnyx"\n')
    return setup_of(simulator, agents)


def setup_of(simulator: Simulator, agents: Path, public_key: str | None = None) -> Setup:
    settings = Settings(
        database_url="postgresql://u@127.0.0.1:1/x",
        broker_url="redis://127.0.0.1:1/0",
        telnyx_api_key=simulator.api_key,
        telnyx_base_url=simulator.base_url,
        namespace=NAMESPACE,
        public_url=PUBLIC_URL,
        telnyx_public_key=public_key,
    )
    routing, timing = load_agents(agents)
    return Setup(settings=settings, wrong={}, routing=routing, timing=timing)


def troubles(setup: Setup) -> dict[str, Finding]:
    return {one.name: one for one in examine(CHECKS, setup) if one.level is not Level.OK}


def test_a_good_profile_has_no_fault(setup: Setup) -> None:
    assert troubles(setup) == {}


@pytest.mark.parametrize(
    ("changes", "name", "level", "found", "fix"),
    [
        ({"profile": {"enabled": False}}, "messaging profile", "fault", "disabled", "enable"),
        ({"profile": {"webhook_api_version": "1"}}, "messaging profile", "fault", "version", "2"),
        ({"profile": {"ai_assistant_id": "a"}}, "messaging profile", "fault", "two", "null"),
        ({"webhook_url": "https://x.invalid"}, "messaging profile", "fault", "lead", "PUBLIC_URL"),
        (
            {"profile": {"whitelisted_destinations": []}},
            "messaging profile",
            "fault",
            "country",
            "whitelisted",
        ),
        (
            {"profile": {"daily_spend_limit_enabled": True}},
            "messaging profile",
            "warning",
            "midnight",
            "spend_limit",
        ),
        ({"profile_numbers": []}, "numbers", "fault", "no number", "assign"),
        ({"profile_keywords": ["REVOKE"]}, "opt-out keywords", "warning", "OPT OUT", "curl"),
        ({"campaign_status": None}, "10DLC campaign", "warning", "1 of 1", "10DLC"),
        ({"campaign_status": "PENDING_ASSIGNMENT"}, "10DLC campaign", "warning", "1 of 1", ""),
    ],
)
def test_a_planted_fault_is_found_with_its_fix(
    simulator: Simulator,
    setup: Setup,
    changes: dict[str, object],
    name: str,
    level: str,
    found: str,
    fix: str,
) -> None:
    simulator.reconfigure(**changes)
    (line,) = troubles(setup).values()
    assert (line.name, line.level) == (name, level)
    assert found in line.found
    assert fix in line.fix
    assert "+1312" not in line.found + line.fix
    assert simulator.api_key not in line.fix


def test_the_command_for_the_keywords_names_the_missing_ones(
    simulator: Simulator, setup: Setup
) -> None:
    simulator.reconfigure(profile_keywords=["revoke"])
    fix = troubles(setup)["opt-out keywords"].fix
    assert '"keywords": ["OPT OUT", "OPTOUT"]' in fix
    assert "$TELNYX_API_KEY" in fix


def test_a_foreign_key_of_webhooks_and_a_foreign_number_are_found(
    simulator: Simulator, setup: Setup, tmp_path: Path
) -> None:
    agents = tmp_path / "agents.toml"
    agents.write_text(
        '[channels.sms]\ndriver = "telnyx"\n[channels.sms.recipients]\n"+13125550199" = "default"\n'
    )
    wrong = setup_of(simulator, agents, public_key="AAAA")
    assert set(troubles(wrong)) == {"webhooks' key", "numbers"}
    right = setup_of(simulator, agents, public_key=f"AAAA {simulator.public_key}")
    assert set(troubles(right)) == {"numbers"}


def test_without_a_channel_of_sms_nothing_of_it_is_asked(
    simulator: Simulator, setup: Setup
) -> None:
    assert setup.routing.telnyx_policy() is not None
    plain = Setup(
        settings=setup.settings, wrong={}, routing=load_agents(None)[0], timing=setup.timing
    )
    assert plain.routing.telnyx_policy() is None
