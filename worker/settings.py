"""Settings: connections and limits from the environment, agents and routing from a TOML file.

Where a connection is not set, the running sandbox's is taken (`worker up` writes them to
`.sandbox/env`), so that a second terminal finds what the first one started.
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.domain.agents import Agent, ChannelKind, ChannelPolicy, Routing, TaskDelivery
from worker.domain.errors import PermanentError
from worker.domain.timing import Timing

RESERVED_THREADS = 16
"""Threads of a process that turns never take: intake and deliveries go on while Telnyx is slow."""
DEFAULT_MODEL = "zai-org/GLM-5.3-Flash"


class SettingsError(PermanentError):
    """A setting is missing or wrong; `str()` is one line that names it and the mend."""


class Settings(BaseSettings):
    """What the environment says. Each field is the variable of the same name in capitals."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    database_url: str = Field(description="postgresql://user:password@host/database")
    broker_url: str = Field(description="redis://host:6379/0 or rediss://…")
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
    database_pool_size: PositiveInt = Field(default=10, description="connections to Postgres")
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR")

    @field_validator("database_url")
    @classmethod
    def _psycopg(cls, url: str) -> str:
        scheme, _, rest = url.partition("://")
        if scheme not in {"postgres", "postgresql", "postgresql+psycopg"} or not rest:
            raise ValueError("give postgresql://user:password@host/database")
        return f"postgresql+psycopg://{rest}"

    @field_validator("broker_url")
    @classmethod
    def _redis(cls, url: str) -> str:
        if not url.startswith(("redis://", "rediss://")):
            raise ValueError("give redis://host:6379/0 or rediss://…")
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


def load_settings() -> Settings:
    """Read the environment, and the running sandbox's file for what it lacks.

    Raises `SettingsError`.
    """
    try:
        return Settings(_env_file=sandbox_dir() / "env")
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from None


def _one_line(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    field = str(fault["loc"][0])
    name = field.upper()
    if fault["type"] == "missing":
        wanted = Settings.model_fields[field].description
        return (
            f"{name} is not set: give {wanted} (or run `worker up`, which embeds what is missing)"
        )
    return f"{name}: {fault['msg'].removeprefix('Value error, ')}"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AgentSection(_Section):
    """`[agents.NAME]`: a named set of model and instructions."""

    model: str = DEFAULT_MODEL
    instructions: str = ""
    instructions_file: Path | None = None
    call_timeout_s: PositiveFloat = 75.0
    fallback_text: str | None = None
    partial_text: bool = False
    max_turns: PositiveInt = 300
    options: dict[str, Any] = Field(default_factory=dict)


class DeliverySection(_Section):
    """`[channels.NAME.delivery]`: replies go out as a Celery task."""

    task: str = Field(min_length=1)
    queue: str = Field(min_length=1)


class ChannelSection(_Section):
    """`[channels.NAME]`: how one channel is treated."""

    kind: ChannelKind = "other"
    agent: str | None = None
    recipients: dict[str, str] = Field(default_factory=dict)
    persist: bool = True
    idle_reset_s: PositiveFloat | None = None
    reorder_s: float = Field(default=0.2, ge=0)
    debounce_s: float = Field(default=0.0, ge=0)
    max_wait_s: PositiveFloat = 10.0
    supersede: bool = False
    max_age_s: PositiveFloat | None = None
    max_pending: PositiveInt = 1000
    delivery: DeliverySection | None = None
    delivery_max_age_s: PositiveFloat = 3600.0
    max_unclear_deliveries: PositiveInt = 1


class AgentsFile(_Section):
    """The whole TOML file."""

    default_agent: str = "default"
    agents: dict[str, AgentSection] = Field(default_factory=dict)
    channels: dict[str, ChannelSection] = Field(default_factory=dict)
    timing: dict[str, float] = Field(default_factory=dict)


def load_agents(path: Path | None) -> tuple[Routing, Timing]:
    """Read agents, routing and waits; None gives one default agent. Raises `SettingsError`."""
    if path is None:
        return _routing(AgentsFile(), Path()), Timing()
    try:
        parsed = AgentsFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(f"AGENTS_FILE: {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"AGENTS_FILE: {path} is not TOML: {error}") from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise SettingsError(f"AGENTS_FILE: {path}: {place}: {fault['msg']}") from None
    try:
        timing = Timing(**parsed.timing)  # type: ignore[arg-type]
    except TypeError:
        unknown = sorted(parsed.timing.keys() - Timing.__dataclass_fields__.keys())
        raise SettingsError(f"AGENTS_FILE: {path}: timing: unknown {unknown}") from None
    return _routing(parsed, path.parent), timing


def _routing(parsed: AgentsFile, folder: Path) -> Routing:
    sections = parsed.agents or {parsed.default_agent: AgentSection()}
    agents = {name: _agent(name, section, folder) for name, section in sections.items()}
    channels = {
        name: ChannelPolicy(
            name=name,
            delivery=_delivery(section.delivery),
            recipient_agents=section.recipients,
            **section.model_dump(exclude={"recipients", "delivery"}),
        )
        for name, section in parsed.channels.items()
    }
    named = {parsed.default_agent: "default_agent"}
    for name, policy in channels.items():
        for agent in filter(None, [policy.agent, *policy.recipient_agents.values()]):
            named.setdefault(agent, f"channels.{name}")
    for agent, place in named.items():
        if agent not in agents:
            raise SettingsError(f"AGENTS_FILE: {place}: there is no [agents.{agent}]")
    return Routing(agents=agents, default_agent=parsed.default_agent, channels=channels)


def _agent(name: str, section: AgentSection, folder: Path) -> Agent:
    instructions = section.instructions
    if section.instructions_file is not None:
        file = folder / section.instructions_file
        try:
            instructions = file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(
                f"AGENTS_FILE: agents.{name}: {file} cannot be read: {error.strerror}"
            ) from None
    fields = section.model_dump(exclude={"instructions", "instructions_file"})
    return Agent(name=name, instructions=instructions, **fields)


def _delivery(section: DeliverySection | None) -> TaskDelivery | None:
    return None if section is None else TaskDelivery(task=section.task, queue=section.queue)
