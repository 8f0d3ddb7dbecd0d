"""Reads the configuration as far as possible: a broken setting must not hide the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pydantic import ValidationError

from worker.cli.settings import NOWHERE
from worker.config.agents_file import load_agents
from worker.config.settings import Settings, SettingsError, sandbox_dir, wrong_setting
from worker.domain.routing import Routing
from worker.domain.timing import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Settings and agents. Unreadable settings get values that connect to nothing."""

    settings: Settings
    wrong: Mapping[str, str]
    """Field -> one line that names it and the fix; these got other values."""
    agents: tuple[Routing, Timing] | None
    """None = the agents file is wrong."""
    agents_fault: str = ""

    @classmethod
    def read(cls) -> Self:
        """Read the environment and the running sandbox's file; raises nothing that they hold."""
        settings, wrong = _read_settings()
        if "agents_file" in wrong:
            return cls(settings=settings, wrong=wrong, agents=None, agents_fault="")
        try:
            agents = load_agents(settings.agents_file)
        except SettingsError as error:
            fault = str(error)
        except (ValueError, TypeError, OSError) as error:
            fault = f"AGENTS_FILE: {type(error).__name__}"
        else:
            return cls(settings=settings, wrong=wrong, agents=agents)
        return cls(settings=settings, wrong=wrong, agents=None, agents_fault=fault)

    @property
    def routing(self) -> Routing:
        """Agents and channels; for checks that need the agents file."""
        return self._read_agents[0]

    @property
    def timing(self) -> Timing:
        """The waits; for checks that need the agents file."""
        return self._read_agents[1]

    @property
    def _read_agents(self) -> tuple[Routing, Timing]:
        if self.agents is None:
            raise SettingsError("the agents file could not be read")
        return self.agents


def _read_settings() -> tuple[Settings, dict[str, str]]:
    wrong: dict[str, str] = {}
    given: dict[str, object] = {}
    # One field at a time: validators that read several fields name only the first wrong one.
    while True:
        try:
            settings = Settings(_env_file=sandbox_dir() / "env", **given)  # type: ignore[arg-type]
        except ValidationError as error:
            field = str(error.errors()[0]["loc"][0])
            if field in wrong:
                raise SettingsError(wrong_setting(error)) from None
            wrong[field] = wrong_setting(error)
            given[field] = NOWHERE.get(field, Settings.model_fields[field].default)
        else:
            return settings, wrong
