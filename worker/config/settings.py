"""Settings: connections and limits, from the environment.

Where a connection is not set, the running sandbox's is taken (`worker up` writes them to
`.sandbox/env`), so that a second terminal finds what the first one started.

What is secret may come from a file instead: DATABASE_URL_FILE names that of DATABASE_URL.
"""

import os
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    Field,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from worker.domain.errors import PermanentError

RESERVED_THREADS = 16
"""Threads of a process that turns never take: intake and deliveries go on while Telnyx is slow."""

SECRETS = ("database_url", "listen_database_url", "broker_url", "telnyx_api_key")
"""The settings that hold a password or a key, each of which a file may hold instead."""


class SettingsError(PermanentError):
    """A setting is missing or wrong; `str()` is one line that names it and the mend."""


class SecretFiles(PydanticBaseSettingsSource):
    """Reads the files that DATABASE_URL_FILE and the like name.

    A fault is given as the value: it then concerns whoever needs this setting, and nobody else.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Give a setting's value, or what is wrong with its file; None where none is named."""
        del field
        try:
            value: object = secret_from_file(field_name.upper())
        except ValueError as error:
            value = error
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Give those that come from files."""
        found = {name: self.get_field_value(FieldInfo(), name)[0] for name in SECRETS}
        return {name: value for name, value in found.items() if value is not None}


class Settings(BaseSettings):
    """What the environment says. Each field is the variable of the same name in capitals."""

    # Empty is not set: a compose file passes empty ones on where nobody has set them.
    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    database_url: str = Field(description="postgresql://user:password@host/database")
    listen_database_url: str | None = Field(
        default=None,
        description="the same database, past any pooler: where the inbox is listened to",
    )
    broker_url: str = Field(
        description="redis://host:6379/0 or amqp://user:password@host//, or with TLS rediss:// or amqps://"
    )
    telnyx_api_key: SecretStr = Field(description="an API key of Telnyx, KEY…")
    telnyx_base_url: str = Field(
        default="https://api.telnyx.com/v2", description="the address of Telnyx's API"
    )
    namespace: UUID = Field(
        description="a UUID of this installation; staging and production need different ones"
    )
    agents_file: Path | None = Field(
        default=None, description="a TOML file with agents and routing, see docs"
    )
    concurrency: Annotated[int, Field(gt=RESERVED_THREADS)] = Field(
        default=216, description="threads of a process; 16 fewer turns run at once"
    )
    database_prepare: bool = Field(
        default=False, description="true where no transaction pooler stands before Postgres"
    )
    database_pool_size: PositiveInt = Field(default=10, description="connections to Postgres")
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=None, description="where a worker shows its metrics; 0 = any free port"
    )
    metrics_file_sd_dir: Path | None = Field(
        default=None, description="a folder where each worker writes where its metrics are"
    )
    retention_days: PositiveInt | None = Field(
        default=None, description="days after which texts are taken out; none = never"
    )
    pin_to_core: bool = Field(
        default=False, description="true: the process stays on one core, another one for each"
    )
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - a folder of files
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the files before the environment, where they notice that both are set."""
        return init_settings, SecretFiles(settings_cls), env_settings, dotenv_settings

    @field_validator(*SECRETS, mode="before")
    @classmethod
    def _readable(cls, value: object) -> object:
        if isinstance(value, ValueError):
            raise value
        return value

    @field_validator("database_url", "listen_database_url")
    @classmethod
    def _postgres(cls, url: str | None) -> str | None:
        if url is None:
            return None
        scheme, _, rest = url.partition("://")
        if scheme not in {"postgres", "postgresql", "postgresql+psycopg"} or not rest:
            raise ValueError("give postgresql://user:password@host/database")
        # libpq and SQLAlchemy both read this form; SQLAlchemy does not know "postgres".
        return f"postgresql://{rest}"

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, url: str) -> str:
        if not url.startswith(("redis://", "rediss://", "amqp://", "amqps://")):
            raise ValueError("give redis://host:6379/0, rediss://…, amqp://… or amqps://…")
        return url

    @field_validator("log_level")
    @classmethod
    def _level(cls, level: str) -> str:
        if level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("give DEBUG, INFO, WARNING or ERROR")
        return level.upper()

    @property
    def turn_slots(self) -> int:
        """How many turns one process works at once."""
        return self.concurrency - RESERVED_THREADS


def sandbox_dir() -> Path:
    """Give the folder of the embedded servers: SANDBOX_DIR, else `.sandbox` here."""
    return Path(os.environ.get("SANDBOX_DIR", ".sandbox"))


def is_configured(name: str) -> bool:
    """Whether the environment holds this secret, or names its file; empty is neither."""
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def secret_from_file(name: str) -> str | None:
    """Read the file that NAME_FILE names, without the newline at its end; None = it names none.

    Raises `ValueError`, which shows neither path nor content: either may be the secret.
    """
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return None
    if os.environ.get(name):
        raise ValueError(f"{name}_FILE is set, too: keep one of the two")
    try:
        text = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        kind = type(error).__name__
        raise ValueError(f"the file that {name}_FILE names cannot be read ({kind})") from None
    if not text:
        raise ValueError(f"the file that {name}_FILE names is empty")
    return text


def load_settings() -> Settings:
    """Read the environment, and the running sandbox's file for what it lacks.

    Raises `SettingsError`.
    """
    try:
        return Settings(_env_file=sandbox_dir() / "env")
    except ValidationError as error:
        raise SettingsError(wrong_setting(error)) from None


def wrong_setting(error: ValidationError) -> str:
    """Say in one line which setting is missing or wrong, and what to give."""
    fault = error.errors(include_url=False, include_input=False)[0]
    field = str(fault["loc"][0])
    name = field.upper()
    if fault["type"] == "missing":
        wanted = Settings.model_fields[field].description
        return (
            f"{name} is not set: give {wanted} (or run `worker up`, which embeds what is missing)"
        )
    return f"{name}: {fault['msg'].removeprefix('Value error, ')}"
