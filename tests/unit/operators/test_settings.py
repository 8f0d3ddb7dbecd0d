"""Settings that are secrets, from files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import invoke
from tests.support.secret_files import GIVEN, OTHERS, in_files
from worker.config.settings import SECRETS, Settings, load_settings
from worker.domain.errors import SettingsError


def read(env: dict[str, str]) -> Settings:
    """Read the settings as if this were the environment."""
    with pytest.MonkeyPatch.context() as environment:
        for name in GIVEN:
            environment.delenv(name, raising=False)
        for name, value in (env | OTHERS).items():
            environment.setenv(name, value)
        return load_settings()


def test_every_setting_that_holds_a_secret_may_come_from_a_file() -> None:
    secret = {name for name in Settings.model_fields if name.endswith(("_url", "_key"))}
    assert set(SECRETS) == secret - {"telnyx_base_url"} == {name.lower() for name in GIVEN}


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_secrets_come_from_files_without_the_newline_at_their_end(tmp_path: Path, end: str) -> None:
    assert read(in_files(tmp_path, *GIVEN, end=end)) == read(GIVEN)


@pytest.mark.parametrize("name", GIVEN)
def test_a_secret_set_twice_is_an_error_that_says_both_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        read(in_files(tmp_path, name) | {name: GIVEN[name]})
    assert str(raised.value) == f"{name}: {name}_FILE is set, too: keep one of the two"


def test_an_empty_variable_beside_a_file_is_not_set(
    tmp_path: Path,
) -> None:
    empty = dict.fromkeys(GIVEN, "")
    assert read(in_files(tmp_path, *GIVEN) | empty) == read(GIVEN)


def test_an_empty_variable_is_not_set() -> None:
    others = {name.upper() for name in Settings.model_fields} - GIVEN.keys() - OTHERS.keys()
    assert read(GIVEN | dict.fromkeys(others, "")) == read(GIVEN)
    listens = read(GIVEN | {"LISTEN_DATABASE_URL": ""})
    assert listens.listen_database_url is None
    with pytest.raises(SettingsError, match="BROKER_URL is not set"):
        read(GIVEN | {"BROKER_URL": ""})


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (lambda file: file.unlink(), "cannot be read (FileNotFoundError)"),
        (lambda file: (file.unlink(), file.mkdir()), "cannot be read (IsADirectoryError)"),
        (lambda file: file.write_bytes(b"canary\xff"), "cannot be read (UnicodeDecodeError)"),
        (lambda file: file.write_text("\n"), "is empty"),
    ],
    ids=["missing", "a folder", "not UTF-8", "empty"],
)
def test_a_file_that_cannot_be_used_is_one_line_that_shows_neither_path_nor_content(
    plant: Callable[[Path], object],
    found: str,
    tmp_path: Path,
) -> None:
    env = in_files(tmp_path, "TELNYX_API_KEY")
    plant(tmp_path / "TELNYX_API_KEY")
    with pytest.raises(SettingsError) as raised:
        read(env)
    line = f"TELNYX_API_KEY: the file that TELNYX_API_KEY_FILE names {found}"
    assert str(raised.value) == line


def test_a_broken_file_concerns_only_commands_that_need_it(tmp_path: Path) -> None:
    env = {"SANDBOX_DIR": str(tmp_path / "none"), "TELNYX_API_KEY_FILE": "KEYcanary"}
    said = invoke("status", env=env | {"DATABASE_URL_FILE": str(tmp_path / "gone")})
    assert said.returncode == 2
    assert said.stderr.startswith("worker: DATABASE_URL: the file that DATABASE_URL_FILE names")
    env["LISTEN_DATABASE_URL_FILE"] = str(tmp_path / "gone")
    sent = invoke("send", "--text", "x", "--channel", "NO", env=env | {"BROKER_URL": "redis://r"})
    assert sent.stderr.startswith("worker: not sent: channel: ")
    assert "canary" not in said.stderr + sent.stderr
