"""The settings a command needs, and no others: a machine that only sends has no Telnyx key.

Settings that are not needed get values that lead nowhere.
"""

from typing import Literal
from uuid import UUID

from pydantic import SecretStr, ValidationError

from worker.cli.errors import MISUSED, CommandError
from worker.config.agents_file import load_agents
from worker.config.settings import (
    Settings,
    SettingsError,
    load_settings,
    sandbox_dir,
    wrong_setting,
)
from worker.domain.routing import Routing
from worker.domain.timing import Timing

Need = Literal["database_url", "broker_url", "telnyx_api_key", "namespace"]

NOWHERE: dict[str, object] = {
    "database_url": "postgresql://nowhere.invalid/",
    "listen_database_url": None,
    "broker_url": "redis://nowhere.invalid",
    "telnyx_api_key": SecretStr(""),
    "namespace": UUID(int=0),
}


def settings_for(*needs: Need) -> Settings:
    """Read these settings; raises `CommandError` that names the one missing or wrong."""
    unneeded = {name: value for name, value in NOWHERE.items() if name not in needs}
    try:
        return Settings(_env_file=sandbox_dir() / "env", **unneeded)  # type: ignore[arg-type]
    except ValidationError as error:
        raise CommandError(wrong_setting(error), exit_code=MISUSED) from None


def all_settings() -> Settings:
    """Read what a worker needs; raises `CommandError`."""
    try:
        return load_settings()
    except SettingsError as error:
        raise CommandError(str(error), exit_code=MISUSED) from None


def routing_of(settings: Settings) -> Routing:
    """Read agents and channels; raises `CommandError`."""
    return agents_of(settings)[0]


def agents_of(settings: Settings) -> tuple[Routing, Timing]:
    """Read agents, channels and waits; raises `CommandError`."""
    try:
        return load_agents(settings.agents_file)
    except SettingsError as error:
        raise CommandError(str(error), exit_code=MISUSED) from None
