"""The sections of drafts, hand-over, disclosure and hours: what they mean, and how they fail."""

from datetime import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from worker.config.agents_file import load_agents
from worker.domain.errors import SettingsError
from worker.domain.people.policies import Approve, Disclosure, HandOver, HandOverTrigger, Hours
from worker.domain.routing import Routing


def load(tmp_path: Path, text: str) -> Routing:
    file = tmp_path / "agents.toml"
    file.write_text("[agents.default]\n" + text)
    return load_agents(file)[0]


def test_without_sections_nothing_waits_and_a_driver_discloses(tmp_path: Path) -> None:
    routing = load(tmp_path, '[channels.sms]\ndriver = "telnyx"\n[channels.web]\n')
    agent, sms, web = routing.agent("default"), routing.channel("sms"), routing.channel("web")
    assert (agent.approve, agent.hand_over) == (Approve.NONE, None)
    assert (sms.approve, sms.hours) == (None, None)
    assert (sms.disclosure, web.disclosure) == (Disclosure(language="en"), None)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('approve = "all"\nstream = true', "before anybody can approve it"),
        ('[tools.ask_for_review]\nfunction = "os:getcwd"', "choose another"),
        ('[tools.hand_over]\nfunction = "os:getcwd"', "choose another"),
    ],
)
def test_what_cannot_be_together(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        load(tmp_path, text)


def test_all_that_can_be_said(tmp_path: Path) -> None:
    routing = load(
        tmp_path,
        """approve = "new_users"
[agents.default.hand_over]
notify = "desk"
text = "One moment."
words = ["HUMAN", "MENSCH"]
tool = false
on = ["threat"]
[routes.desk.delivery]
task = "desk.told"
queue = "desk"
[channels.sms]
driver = "telnyx"
approve = "all"
draft_max_age_s = 60
screening.languages = ["de"]
[channels.sms.hours]
from = "21:00"
to = "08:00"
zone = "Europe/Berlin"
[channels.whatsapp]
driver = "telnyx_whatsapp"
disclosure = "none"
""",
    )
    agent, sms = routing.agent("default"), routing.channel("sms")
    assert agent.approve is Approve.NEW_USERS
    assert agent.hand_over == HandOver(
        notify="route:desk",
        text="One moment.",
        words=("HUMAN", "MENSCH"),
        tool=False,
        on=(HandOverTrigger.THREAT,),
    )
    assert (sms.approve, sms.draft_max_age_s) == (Approve.ALL, 60)
    assert sms.disclosure == Disclosure(language="de")
    assert sms.hours == Hours(start=time(21), end=time(8), zone=ZoneInfo("Europe/Berlin"))
    assert routing.channel("whatsapp").disclosure is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('approve = "some"', "agents.default.approve"),
        ('[agents.default.hand_over]\nnotify = "desk"', "give [routes.desk.delivery] a task"),
        ('[channels.web]\n[channels.web.disclosure]\nlanguage = "de"', "disclosure needs a driver"),
        ('[channels.web.hours]\nfrom = "08:00"\nto = "08:00"\nzone = "UTC"', "are equal"),
        ('[channels.web.hours]\nfrom = "08:00"\nto = "9"\nzone = "UTC"', "channels.web.hours.to"),
        ('[channels.web.hours]\nfrom = "08:00"\nto = "09:00"\nzone = "Mars"', "no such time zone"),
        ('[channels.web.hours]\nfrom = "08:00+01:00"\nto = "09:00"\nzone = "UTC"', "no offset"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert told in str(caught.value)
