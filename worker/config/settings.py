# ruff: noqa: RUF009 - the fields declare themselves by these calls
"""Settings: connections and limits, from the environment.

Connections that are not set come from the running sandbox: `worker up` writes them to
`.sandbox/env`, so that a second terminal finds the servers of the first.

Secrets may come from files instead: DATABASE_URL_FILE names the file of DATABASE_URL.

Plain dataclass fields and small readers: a health check runs every few seconds, and a library that
validates would cost it more than the check itself.
"""

import os
import unicodedata
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args
from uuid import UUID

from worker.config import readers as read
from worker.domain.errors import SettingsError

RESERVED_THREADS = 16
"""Threads that turns never use, so that intake and deliveries continue while Telnyx is slow."""

Need = Literal["database_url", "listen_database_url", "broker_url", "telnyx_api_key", "namespace"]
EVERY: Final[tuple[Need, ...]] = get_args(Need)
NOWHERE: Final[Mapping[str, object]] = {
    "database_url": "postgresql://nowhere.invalid/",
    "listen_database_url": None,
    "broker_url": "redis://nowhere.invalid",
    "telnyx_api_key": "",
    "namespace": UUID(int=0),
}
"""Values that lead nowhere, for settings that a command does not need."""
_SERVERS: Final = ("DATABASE_URL", "BROKER_URL")
_WRITTEN: Final = (
    *(*_SERVERS, "DATABASE_PREPARE"),
    *("TELNYX_BASE_URL", "TELNYX_API_KEY", "NAMESPACE"),
)
"""What `worker up` writes to the sandbox's file `env`."""
SECRETS: Final = (
    *(name for name in NOWHERE if name != "namespace"),
    *("gateway_token", "gateway_secret", "console_tokens", "smtp_url", "imap_url"),
)
"""Settings that hold a password or a key; each may come from a file instead."""


def _setting(reader: Callable[[str], object], default: object = MISSING, **more: str) -> Any:  # noqa: ANN401 - the field's type
    """Declare a field by how its text is read; `wanted` says what to give if it is missing."""
    return field(default=default, metadata={"reader": reader, **more})


# Without a repr: it would show passwords.
@dataclass(frozen=True, kw_only=True, repr=False)
class Settings:
    """Settings of a process. A field is the environment variable of that name in capitals.

    docs/reference/settings.md describes them.
    """

    database_url: str = _setting(read.postgres, wanted="postgresql://user:password@host/database")
    listen_database_url: str | None = _setting(read.postgres, None)
    broker_url: str = _setting(
        read.broker,
        wanted="redis://host:6379/0 or amqp://user:password@host//, or with TLS rediss:// or amqps://",
    )
    telnyx_api_key: str = _setting(read.key, wanted="an API key of Telnyx, KEY…")
    telnyx_base_url: str = _setting(str, "https://api.telnyx.com/v2")
    # No default: installations that share a Telnyx account and a namespace adopt each other's
    # conversations.
    namespace: UUID = _setting(
        read.namespace,
        wanted="a UUID of this installation; staging and production need different ones",
    )
    agents_file: Path | None = _setting(Path, None)
    public_url: str | None = _setting(
        read.address_of("the gateway's address as Telnyx sees it"), None
    )
    telnyx_public_key: str | None = _setting(str, None)
    gateway_token: str | None = _setting(str, None)
    gateway_secret: str | None = _setting(str, None)
    gateway_messages_per_second: int = _setting(read.number(1), 100)
    console_url: str | None = _setting(
        read.address_of("the console's address as staff see it"), None
    )
    console_tokens: Mapping[str, str] | None = _setting(read.tokens, None)
    console_user_header: str | None = _setting(read.header, None)
    smtp_url: str | None = _setting(read.smtp, None)
    smtp_token_command: str | None = _setting(str, None)
    imap_url: str | None = _setting(read.imap, None)
    imap_token_command: str | None = _setting(str, None)
    concurrency: int = _setting(read.number(RESERVED_THREADS + 1), 216)
    # Behind a transaction pooler, the next transaction may run in a server process that has another
    # statement under the same name, or none.
    database_prepare: bool = _setting(read.flag, default=False)
    database_pool_size: int = _setting(read.number(1), 10)
    metrics_port: int | None = _setting(read.number(0, 65535), None)
    metrics_file_sd_dir: Path | None = _setting(Path, None)
    retention_days: int | None = _setting(read.number(1), None)
    pin_to_core: bool = _setting(read.flag, default=False)
    log_level: str = _setting(read.level, "INFO")

    @property
    def turn_slots(self) -> int:
        """Number of turns that a process works on at once."""
        return self.concurrency - RESERVED_THREADS


def sandbox_dir() -> Path:
    """Return the folder of the embedded servers: SANDBOX_DIR, else `.sandbox` here."""
    return Path(os.environ.get("SANDBOX_DIR", ".sandbox"))


def is_configured(name: str) -> bool:
    """Return whether the environment holds this secret or names its file; empty is neither."""
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def checked_secret(text: str) -> str:
    """Return a secret as it is. Raises `ValueError`, unquoted, if it was not copied as it is."""
    if not text.strip():
        raise ValueError("it is blank")
    # A password or key with one of these was cut or joined when it was copied.
    if text != text.strip() or any(unicodedata.category(one) == "Cc" for one in text):
        raise ValueError("it has a line break, or a blank around it: give it alone, on one line")
    return text


def secret_from_file(name: str) -> str | None:
    """Read the file that NAME_FILE names, without the final newline; None = it names none.

    Raises `SettingsError`, which shows neither path nor content: either may be the secret.
    """
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return None
    if os.environ.get(name):
        raise SettingsError(f"{name}: {name}_FILE is set, too: keep one of the two")
    try:
        text = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        # `from None`: the original shows the path, and somebody may have put the secret there.
        found = f"cannot be read ({type(error).__name__})"
        raise SettingsError(f"{name}: the file that {name}_FILE names {found}") from None
    if not text:
        raise SettingsError(f"{name}: the file that {name}_FILE names is empty")
    try:
        return checked_secret(text)
    except ValueError as error:
        raise SettingsError(f"{name}: the file that {name}_FILE names: {error}") from None


def secret(name: str) -> str | None:
    """Return a secret that is no field of `Settings`; None = it is not set. See above."""
    if text := secret_from_file(name) or os.environ.get(name):
        try:
            return checked_secret(text)
        except ValueError as error:
            raise SettingsError(f"{name}: {error}") from None
    return None


def load_settings() -> Settings:
    """Read the environment; the running sandbox's file adds missing settings.

    Raises `SettingsError`.
    """
    return settings_for(*EVERY)


def settings_for(*needs: Need) -> Settings:
    """Read these connections and no others: a machine that only sends has no Telnyx key.

    Raises `SettingsError`, which names the setting that is missing or wrong.
    """
    settings, wrong = read_settings(*needs)
    for line in wrong.values():
        raise SettingsError(line)
    return settings


def read_settings(*needs: Need) -> tuple[Settings, dict[str, str]]:
    """Read all that can be read; the rest leads nowhere, or has its default.

    Returns with them, for each field that is missing or wrong, one line that names the fix.
    """
    # Empty counts as not set: a compose file passes unset variables on as empty ones.
    own, sandbox = {name: text for name, text in os.environ.items() if text}, _sandbox()
    _refuse_ended_sandbox(own, sandbox)
    given = {**sandbox, **own}
    values, wrong = dict[str, Any](NOWHERE), dict[str, str]()
    for one in fields(Settings):
        # Of what is not needed, a fault must not stop the command.
        if one.name in needs or one.name not in NOWHERE:
            try:
                values[one.name] = _value(one, given)
            except SettingsError as error:
                wrong[one.name] = str(error)
                values[one.name] = NOWHERE.get(one.name, one.default)
    return Settings(**values), wrong


def _value(one: Field[Any], given: Mapping[str, str]) -> object:
    name, is_secret = one.name.upper(), one.name in SECRETS
    text = (secret_from_file(name) if is_secret else None) or given.get(name)
    if text is None and one.default is MISSING:
        wanted = f"give {one.metadata['wanted']} (or run `worker up`, which embeds what is missing)"
        raise SettingsError(f"{name} is not set: {wanted}")
    if text is None:
        return one.default
    try:
        return one.metadata["reader"](checked_secret(text) if is_secret else text)
    except ValueError as error:
        # Unchained: nothing of a password in a traceback.
        fault = str(error)
    raise SettingsError(f"{name}: {fault}")


def _refuse_ended_sandbox(own: Mapping[str, str], sandbox: Mapping[str, str]) -> None:
    """Raise `SettingsError` if a shell still has the addresses of an earlier `worker up`.

    The namespace, made once for each folder, shows where they came from.
    """
    namespace = None
    with suppress(OSError):
        namespace = (sandbox_dir() / "namespace").read_text(encoding="utf-8").strip()
    # A running sandbox names the servers that it embeds; others are the user's own.
    servers = {name: sandbox.get(name) for name in _SERVERS if name in sandbox or not sandbox}
    has_stale = any(own.get(name, found) != found for name, found in servers.items())
    if namespace and own.get("NAMESPACE") == namespace and has_stale:
        raise SettingsError(
            f"this shell has the addresses of an earlier `worker up` in {sandbox_dir()}: run "
            f"`unset {' '.join(name for name in _WRITTEN if name in own)}`; then commands here "
            "use the `worker up` that runs, and `worker up` starts one"
        )


def _sandbox() -> dict[str, str]:
    """Return the addresses that a running sandbox wrote; empty if there is none."""
    with suppress(OSError):
        lines = (sandbox_dir() / "env").read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)
    return {}
