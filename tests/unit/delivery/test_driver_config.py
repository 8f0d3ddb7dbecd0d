"""The section of a channel with a driver of Telnyx."""

from pathlib import Path

import pytest

from worker.config.agents_file import load_agents
from worker.domain.errors import SettingsError
from worker.domain.routing import ChannelPolicy, Screening
from worker.domain.ways_out import MailDelivery, TelnyxDelivery


def channel(tmp_path: Path, text: str, name: str = "sms") -> ChannelPolicy:
    file = tmp_path / "agents.toml"
    file.write_text(text)
    return load_agents(file)[0].channel(name)


def test_a_driver_is_all_that_a_channel_needs(tmp_path: Path) -> None:
    policy = channel(tmp_path, '[channels.sms]\ndriver = "telnyx"')
    assert policy.delivery == TelnyxDelivery()
    assert policy.kind == "telephone"
    assert policy.screening == Screening(languages=("en",))


def test_its_options(tmp_path: Path) -> None:
    text = """
        [channels.wa]
        driver = "telnyx_whatsapp"
        [channels.wa.telnyx]
        max_parts = 2
        messages_per_day = 2000
        [channels.wa.screening]
        languages = ["de", "fr"]
        help_text = "Acme: call +1 555 0100"
    """
    policy = channel(tmp_path, text, "wa")
    assert policy.delivery == TelnyxDelivery(whatsapp=True, max_parts=2, messages_per_day=2000)
    assert policy.kind == "telephone"
    assert policy.screening.languages == ("de", "fr")


def test_a_driver_of_e_mail(tmp_path: Path) -> None:
    text = """
        [channels.email]
        driver = "smtp"
        [channels.email.mail]
        addresses = "Help@Acme.example"
        forms = ["wordpress@acme.example"]
    """
    policy = channel(tmp_path, text, "email")
    forms = ("wordpress@acme.example",)
    assert policy.delivery == MailDelivery(addresses=("help@acme.example",), forms=forms)
    assert policy.kind == "email"


DRIVER = '[channels.sms]\ndriver = "telnyx"\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f'{DRIVER}[channels.sms.delivery]\ntask = "t"\nqueue = "q"', "there is no delivery"),
        (f'{DRIVER}kind = "email"', 'the kind is "telephone"'),
        ("[channels.sms.telnyx]\nsplit = true", "needs driver"),
        (f'{DRIVER}[channels.two]\ndriver = "telnyx"', "several channels have driver = 'telnyx'"),
        ('[channels.email]\ndriver = "smtp"', "give the section mail"),
        ('[channels.email.mail]\naddresses = "a@b.c"', 'needs driver = "smtp" or "telnyx_email"'),
        (f'{DRIVER}[channels.sms.mail]\naddresses = "a@b.c"', "has another section of options"),
        (f"{DRIVER}[channels.sms.telnyx]\nmax_parts = 11", "telnyx.max_parts"),
        (f'{DRIVER}[channels.sms.screening]\nlanguages = ["German"]', "screening.languages"),
        (f'{DRIVER}[channels.sms.recipients]\n"13125550199" = "default"', "recipients: .* E.164"),
        (f'{DRIVER}[channels.sms.recipients]\n"+1 312 555 0199" = "default"', "E.164"),
        (f'{DRIVER}[channels.sms.hours]\nfrom = "9"\nto = "17:00"', 'hours.from: give .*"09:00"'),
        ('[channels]\nsms = "telnyx"', "channels.sms: give a section"),
        ("agents = [1]", "agents: give a section"),
        ("[channels.sms]\ndelivery_max_age_s = inf", "delivery_max_age_s: give at most 1000000000"),
        ("[channels.sms]\nmax_wait_s = 1e300", "max_wait_s: give at most"),
        (f"[agents.default]\nmax_turns = {10**22}", "max_turns: give at most"),
        ("[timing]\nsettle_s = inf", "timing.settle_s"),
    ],
)
def test_a_mistake_names_the_key_and_the_fix(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        channel(tmp_path, text)


def test_a_short_code_and_the_mark_of_windows_editors_are_no_mistakes(tmp_path: Path) -> None:
    policy = channel(tmp_path, f'\ufeff{DRIVER}[channels.sms.recipients]\n"312555" = "default"')
    assert policy.recipient_agents == {"312555": "default"}
