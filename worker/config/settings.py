"""Settings: connections and limits, from the environment.

Connections that are not set come from the running sandbox: `worker up` writes them to
`.sandbox/env`, so that a second terminal finds the servers of the first.

Secrets may come from files instead: DATABASE_URL_FILE names the file of DATABASE_URL.
"""

import os
import unicodedata
from pathlib import Path
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field, PositiveInt, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from message_worker_client.broker_url import read_broker_url
from worker.domain.errors import SettingsError

RESERVED_THREADS = 16
"""Threads that turns never use, so that intake and deliveries continue while Telnyx is slow."""

Need = Literal["database_url", "listen_database_url", "broker_url", "telnyx_api_key", "namespace"]
NOWHERE: dict[Need, object] = {
    "database_url": "postgresql://nowhere.invalid/",
    "listen_database_url": None,
    "broker_url": "redis://nowhere.invalid",
    "telnyx_api_key": SecretStr(""),
    "namespace": UUID(int=0),
}
"""Values that lead nowhere, for settings that a command does not need."""
SECRETS: Final = tuple(name for name in NOWHERE if name != "namespace")
"""Settings that hold a password or a key; each may come from a file instead."""


class Settings(BaseSettings):
    """Settings of a process. A field is the environment variable of that name in capitals."""

    # Empty counts as not set: a compose file passes unset variables on as empty ones.
    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    database_url: str = Field(description="postgresql://user:password@host/database")
    listen_database_url: str | None = Field(
        default=None,
        description="the same database without a pooler in between, to listen for the inbox",
    )
    broker_url: str = Field(
        description="redis://host:6379/0 or amqp://user:password@host//, or with TLS rediss:// or amqps://"
    )
    telnyx_api_key: SecretStr = Field(description="an API key of Telnyx, KEY…")
    telnyx_base_url: str = Field(
        default="https://api.telnyx.com/v2", description="the address of Telnyx's API"
    )
    # No default: installations that share a Telnyx account and a namespace adopt each other's
    # conversations.
    namespace: UUID = Field(
        description="a UUID of this installation; staging and production need different ones"
    )
    agents_file: Path | None = Field(
        default=None, description="a TOML file with agents and routing, see docs"
    )
    concurrency: Annotated[int, Field(gt=RESERVED_THREADS)] = Field(
        default=216, description="threads of a process; 16 fewer turns run at once"
    )
    # Behind a transaction pooler, the next transaction may run in a server process that has another
    # statement under the same name, or none.
    database_prepare: bool = Field(
        default=False, description="true if no transaction pooler is between workers and Postgres"
    )
    database_pool_size: PositiveInt = Field(default=10, description="connections to Postgres")
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=None, description="port on which a worker serves its metrics; 0 = any free port"
    )
    metrics_file_sd_dir: Path | None = Field(
        default=None, description="a folder in which each worker writes the address of its metrics"
    )
    retention_days: PositiveInt | None = Field(
        default=None, description="days after which texts are removed; not set = never"
    )
    pin_to_core: bool = Field(
        default=False, description="true: each process stays on one core of its own"
    )
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR")

    @field_validator(*SECRETS, mode="before")
    @classmethod
    def _as_copied(cls, value: object) -> object:
        return checked_secret(value) if isinstance(value, str) else value

    @field_validator("telnyx_api_key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr) -> SecretStr:
        if not all("!" <= one <= "~" for one in key.get_secret_value()):
            raise ValueError("it has a blank, or a character that no key has: give the key alone")
        return key

    @field_validator("database_url", "listen_database_url")
    @classmethod
    def _postgres(cls, url: str | None) -> str | None:
        if url is None:
            return None
        scheme, _, rest = url.partition("://")
        if scheme not in {"postgres", "postgresql", "postgresql+psycopg"} or not rest:
            raise ValueError("give postgresql://user:password@host/database")
        from message_worker_client.postgres import Address  # noqa: PLC0415 - a sender by broker needs no driver

        return Address(f"postgresql://{rest}").url

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, url: str) -> str:
        read_broker_url(url)
        return url

    @field_validator("log_level")
    @classmethod
    def _level(cls, level: str) -> str:
        if level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("give DEBUG, INFO, WARNING or ERROR")
        return level.upper()

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


def load_settings() -> Settings:
    """Read the environment; the running sandbox's file adds missing settings.

    Raises `SettingsError`.
    """
    return settings_for(*NOWHERE)


def settings_for(*needs: Need) -> Settings:
    """Read these connections and no others: a machine that only sends has no Telnyx key.

    Raises `SettingsError`, which names the setting that is missing or wrong.
    """
    given = {name: value for name, value in NOWHERE.items() if name not in needs}
    for name in SECRETS:
        # Of a file that is not needed, a fault must not stop the command.
        if name in needs and (secret := secret_from_file(name.upper())):
            given[name] = secret
    try:
        return Settings(_env_file=sandbox_dir() / "env", **given)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(wrong_setting(error)) from None


def wrong_setting(error: ValidationError) -> str:
    """Return one line that names the setting and how to fix it."""
    # Without the input: it may be a password.
    fault = error.errors(include_url=False, include_input=False)[0]
    field = str(fault["loc"][0])
    name = field.upper()
    if fault["type"] == "missing":
        wanted = Settings.model_fields[field].description
        return (
            f"{name} is not set: give {wanted} (or run `worker up`, which embeds what is missing)"
        )
    return f"{name}: {fault['msg'].removeprefix('Value error, ')}"
