"""Settings that are secrets, from files."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import psycopg
import pytest
from structlog.testing import capture_logs

from tests.support.cli import invoke
from tests.support.secret_files import GIVEN, OTHERS, in_files
from worker.bootstrap.telnyx import build_telnyx
from worker.config.settings import SECRETS, Settings, load_settings
from worker.domain.errors import PermanentError, SettingsError, named
from worker.handlers.background.threads import _tried


def read(env: dict[str, str]) -> Settings:
    """Read the settings as if this were the environment."""
    with pytest.MonkeyPatch.context() as environment:
        for name in GIVEN:
            environment.delenv(name, raising=False)
        for name, value in (env | OTHERS).items():
            environment.setenv(name, value)
        return load_settings()


def test_every_setting_that_holds_a_secret_may_come_from_a_file() -> None:
    ends = ("_url", "_key", "_token", "_tokens", "_secret")
    secret = {one.name for one in fields(Settings) if one.name.endswith(ends)}
    assert (
        set(SECRETS)
        == secret - {"telnyx_base_url", "public_url", "console_url", "telnyx_public_key"}
        == {name.lower() for name in GIVEN}
    )


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
    others = {one.name.upper() for one in fields(Settings)} - GIVEN.keys() - OTHERS.keys()
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


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize(
    "spoiled",
    [
        "{}\n",
        "{}\r\n",
        " {}",
        "{} ",
        "\u00a0{}",
        "{}\ncanary",
        "canary\t{}",
        "{}\x85canary",
        "{}\x00",
        "  ",
        "\n",
    ],
)
def test_a_secret_that_was_copied_with_more_than_itself_is_one_line_with_its_name(
    name: str, spoiled: str, tmp_path: Path
) -> None:
    value = spoiled.format(GIVEN[name] + "canary")
    environments = [in_files(tmp_path, name) | {k: v for k, v in GIVEN.items() if k != name}]
    (tmp_path / name).write_text(value, encoding="utf-8", newline="")
    if "\x00" not in value:  # which no environment can hold
        environments.append(GIVEN | {name: value})
    if value.rstrip("\r\n") == GIVEN[name] + "canary" or not value.rstrip("\r\n"):
        del environments[0]  # the newline at a file's end is the editor's
    for env in environments:
        with pytest.raises(SettingsError) as raised:
            read(env)
        line = str(raised.value)
        assert line.startswith(f"{name}: ")
        assert "canary" not in line
        assert line.isprintable()


@pytest.mark.parametrize("key", ["KEY two", "KEY\u200b", "Schl\u00fcssel", "KEY\u00a0x"])
def test_a_key_that_no_header_can_carry_is_one_line_with_its_name(key: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read(GIVEN | {"TELNYX_API_KEY": key})
    assert str(raised.value).startswith("TELNYX_API_KEY: ")
    assert key not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("TELNYX_BASE_URL", "https://k:S3cr@h/v2", "TELNYX_BASE_URL: "),
        ("HTTPS_PROXY", "socks5://u:S3cr@h", "HTTPS_PROXY: give http://"),
        ("SSL_CERT_FILE", "/no/such/file", "SSL_CERT_FILE cannot be read"),
    ],
)
def test_what_reaches_telnyx_is_named_if_it_is_wrong(
    name: str, value: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    more = {"telnyx_base_url": value} if name == "TELNYX_BASE_URL" else {}
    settings = replace(read(GIVEN), **more)
    with pytest.raises(SettingsError) as raised:
        build_telnyx(settings)
    assert str(raised.value).startswith(line)
    assert "S3cr" not in str(raised.value)


def test_an_error_is_logged_with_its_code_and_without_its_text() -> None:
    refused = PermanentError("Postgres refused a statement: canary", code="42703")
    unique = psycopg.errors.UniqueViolation("canary")
    for error, shown in (
        (refused, "PermanentError 42703"),
        (unique, "UniqueViolation 23505"),
        (ValueError("canary"), "ValueError"),
    ):

        def fail(error: Exception = error) -> None:
            raise error

        with capture_logs() as logs:
            _tried("sweep", fail, None)
        assert logs == [{"event": "sweep.defect", "error": shown, "log_level": "error"}]
        assert named(error) == shown
