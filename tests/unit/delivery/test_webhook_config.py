"""`[channels.NAME.delivery]`: what it gives, and what it says when it is wrong."""

import base64
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from worker.channels.build import build_channels
from worker.channels.channel import Channel
from worker.channels.task import TaskChannel
from worker.channels.webhook import WebhookChannel
from worker.config.agents_file import load_agents
from worker.domain.deliveries import WEBHOOK_MAX_AGE_S
from worker.domain.errors import SettingsError
from worker.domain.ways_out import EntryPointDelivery, TaskDelivery, WebhookDelivery

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(32)).decode()
ENVIRON = {"KEY": SECRET, "OLD": OTHER, "SHORT": "whsec_AAAA", "NOT": "whsec_ä"}
HOOK = 'url = "https://crm.example.com/replies"\nsecret_env = "KEY"\n'


def load(folder: Path, section: str) -> Any:  # noqa: ANN401 whatever policy it is
    (folder / "agents.toml").write_text(section)
    return load_agents(folder / "agents.toml")[0].channels["crm"]


def delivery(folder: Path, lines: str) -> Any:  # noqa: ANN401 any kind
    return load(folder, f"[channels.crm.delivery]\n{lines}").delivery


def build(folder: Path, lines: str) -> Channel:
    given = {"crm": delivery(folder, lines)}
    return build_channels(given, lambda *_: None, ENVIRON)["crm"]


# --- what it gives -----------------------------------------------------------------------------


def test_a_task_and_its_queue(tmp_path: Path) -> None:
    lines = 'task = "crm.take"\nqueue = "crm"\n'
    assert delivery(tmp_path, lines) == TaskDelivery(task="crm.take", queue="crm")
    assert isinstance(build(tmp_path, lines), TaskChannel)


def test_a_url_with_one_key_or_several(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET + "\n")
    assert delivery(tmp_path, HOOK) == WebhookDelivery(
        url="https://crm.example.com/replies", secret_env=("KEY",)
    )
    both = HOOK.replace('"KEY"', '["KEY", "OLD"]')
    assert delivery(tmp_path, both).secret_env == ("KEY", "OLD")
    file = HOOK.replace('secret_env = "KEY"', 'secret_file = "key"')
    assert delivery(tmp_path, file).secret_file == (tmp_path / "key",)
    for lines in (HOOK, both, file):
        assert isinstance(build(tmp_path, lines), WebhookChannel)


def test_an_entry_point_gets_all_further_keys(tmp_path: Path) -> None:
    lines = 'entry_point = "pigeon"\ncolour = "grey"\nspeed = { unit = "km/h", value = 80 }\n'
    assert delivery(tmp_path, lines) == EntryPointDelivery(
        entry_point="pigeon", options={"colour": "grey", "speed": {"unit": "km/h", "value": 80}}
    )


def test_a_webhook_is_tried_for_longer_unless_the_channel_says_how_long(tmp_path: Path) -> None:
    hook = f"[channels.crm.delivery]\n{HOOK}"
    task = '[channels.crm.delivery]\ntask = "a"\nqueue = "b"\n'
    own = f"[channels.crm]\ndelivery_max_age_s = 60\n{hook}"
    ages_s = [load(tmp_path, one).delivery_max_age_s for one in (hook, task, own)]
    assert ages_s == [WEBHOOK_MAX_AGE_S, 3600.0, 60.0]


# --- what it says ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "give one of task, url and entry_point"),
        (HOOK + 'task = "a"\nqueue = "b"\n', "give one of task, url and entry_point"),
        ('queue = "b"\n', "give one of task, url and entry_point"),
        ('task = "a"\n', "needs the queue"),
        ('task = ""\nqueue = "b"\n', "at least 1 character"),
        ('task = "a"\nqueue = "b"\nquue = "b"\n', r"with task there is no \['quue'\]"),
        ('task = "a"\nqueue = "b"\nsecret_env = "K"\n', r"with task there is no \['secret_env'\]"),
        (HOOK + "queue = 'b'\n", r"with url there is no \['queue'\]"),
        (HOOK + "secret = 'b'\n", r"with url there is no \['secret'\]"),
        ('url = "https://a.example/"\n', "either secret_env or secret_file"),
        (HOOK + 'secret_file = "key"\n', "either secret_env or secret_file"),
        (HOOK.replace('"KEY"', "[]"), "either secret_env or secret_file"),
        ('entry_point = "a"\nurl = "https://a.example/"\n', "give one of task, url"),
        ('entry_point = "a"\nsecret_env = "K"\n', r"with entry_point there is no \['secret_env'\]"),
    ],
)
def test_a_wrong_section_is_named_with_the_mend(tmp_path: Path, lines: str, said: str) -> None:
    with pytest.raises(SettingsError, match=rf"channels\.crm\.delivery.*{said}"):
        delivery(tmp_path, lines)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (HOOK.replace('"KEY"', '"GONE"'), "secret_env: GONE is not set"),
        (HOOK.replace('"KEY"', '["KEY", "SHORT"]'), "secret_env: SHORT: the key has 3 bytes"),
        (HOOK.replace('"KEY"', '"NOT"'), "secret_env: NOT: the key is not base64"),
        (HOOK.replace("env", "file"), "secret_file: .*KEY cannot be read"),
        (HOOK.replace("https:", "ftp:"), "url: give http"),
        (HOOK.replace("//", "//me:pass@"), "url: no user or password"),
        (HOOK.replace("https:", "http:"), "url: http is not encrypted: .*allow_private = true"),
    ],
)
def test_what_cannot_be_built_stops_the_start(tmp_path: Path, lines: str, said: str) -> None:
    place = r"^AGENTS_FILE: channels\.crm\.delivery"
    with pytest.raises(SettingsError, match=f"{place}: {said}") as caught:
        build(tmp_path, lines)
    assert not any(word in str(caught.value) for word in (SECRET, "pass@"))


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "10.0.0.1", "169.254.169.254", "2130706433", "0x7f000001", "0x7f.1"),
        *("127.1", "0", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:8.8.8.8]"),
        *("[64:ff9b::7f00:1]", "[fe80::1%25eth0]", "[fd00::1]", "224.0.0.1", "255.255.255.255"),
    ],
)
def test_an_address_that_is_not_public_stops_the_start_unless_allowed(
    tmp_path: Path, host: str
) -> None:
    lines = HOOK.replace("crm.example.com", host)
    with pytest.raises(SettingsError, match="not public: set allow_private = true"):
        build(tmp_path, lines)
    build(tmp_path, lines + "allow_private = true\n")


# --- a third party's ---------------------------------------------------------------------------

PIGEON = """
from worker.domain.deliveries import Sent

class Pigeon:
    takes_key = False

    def __init__(self, *, colour, speed=80):
        if speed > 100:
            raise ValueError("speed: pigeons fly at 100 at most")
        if speed < 0:
            raise OSError("token-4711")
        self.colour = colour

    def deliver(self, reply):
        return Sent(provider_id=self.colour)

def stone():
    return object()
"""


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[None]:
    """A package with entry points, as pip leaves it behind."""
    site = tmp_path / "site"
    info = site / "pigeons-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeons\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[worker.channels]\npigeon = pigeons_of_a_test:Pigeon\nstone = pigeons_of_a_test:stone\n"
        "lost = pigeons_that_are_not_there:Pigeon\n"
    )
    (site / "pigeons_of_a_test.py").write_text(PIGEON)
    sys.path.insert(0, str(site))
    yield
    sys.path.remove(str(site))
    sys.modules.pop("pigeons_of_a_test", None)


def test_a_third_partys_channel_is_found_by_its_name(tmp_path: Path, installed: None) -> None:
    channel: Any = build(tmp_path, 'entry_point = "pigeon"\ncolour = "grey"\n')
    assert (channel.takes_key, channel.colour) == (False, "grey")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('"raven"', r"no installed package has 'raven' .* name one of \['lost', 'pigeon', 'stone'"),
        ('"lost"', r"pigeons_that_are_not_there:Pigeon cannot be loaded \(ModuleNotFoundError\)"),
        ('"pigeon"', "the options of 'pigeon': missing a required argument: 'colour'"),
        ('"pigeon"\ncolour = 1\nsize = 2', "unexpected keyword argument 'size'"),
        ('"pigeon"\ncolour = 1\nspeed = 101', "speed: pigeons fly at 100 at most"),
        ('"pigeon"\ncolour = 1\nspeed = -1', r"'pigeon' could not be built \(OSError\)"),
        ('"stone"', "'stone' returned no channel: it needs takes_key and deliver"),
    ],
)
def test_a_third_partys_channel_that_does_not_fit_is_named(
    tmp_path: Path, installed: None, lines: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        build(tmp_path, f"entry_point = {lines}\n")
    assert "token-4711" not in str(caught.value)
