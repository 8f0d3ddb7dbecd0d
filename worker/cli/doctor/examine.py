"""Parts that all checks share: the settings as far as they can be read, and a run in bounded time.

A broken setting must not hide the others, and no fault of one check stops the next.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from threading import Thread
from typing import Final, Self

from pydantic import ValidationError

from worker.cli.settings import NOWHERE
from worker.config.agents_file import load_agents
from worker.config.settings import Settings, SettingsError, sandbox_dir, wrong_setting
from worker.domain.errors import WorkerError
from worker.domain.reports.finding import Finding, Level, fault, unchecked
from worker.domain.routing import Routing
from worker.domain.timing import Timing

CHECK_S: Final = 5.0
UNREACHABLE: Final = "see whether it can be reached from here: name, port, firewall"


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
        agents, fault = None, ""
        try:
            if "agents_file" not in wrong:
                agents = load_agents(settings.agents_file)
        except SettingsError as error:
            fault = str(error)
        except (ValueError, TypeError, OSError) as error:
            fault = f"AGENTS_FILE: {type(error).__name__}"
        return cls(settings=settings, wrong=wrong, agents=agents, agents_fault=fault)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check. `name` is unique."""

    group: str
    name: str
    look: Callable[[Setup], Finding]
    needs: tuple[str, ...] = ()
    """Names of earlier checks without which this one makes no sense."""
    timeout_s: float = CHECK_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The finding of a check: one line of the report, with its fields in the order of the JSON."""

    group: str
    name: str
    level: Level
    found: str
    fix: str


def result(finding: Finding, *, group: str, name: str) -> Result:
    """Return a finding as a line of the report."""
    return Result(group=group, name=name, **asdict(finding))


def examine(checks: Iterable[Check], setup: Setup) -> Iterator[Result]:
    """Run the checks in order; one that needs a failed one is not run."""
    failed: set[str] = set()
    for check in checks:
        missing = [name for name in check.needs if name in failed]
        finding = unchecked(f"{missing[0]} comes first") if missing else _within(check, setup)
        if finding.level in {Level.FAULT, Level.UNCHECKED}:
            failed.add(check.name)
        yield result(finding, group=check.group, name=check.name)


def _within(check: Check, setup: Setup) -> Finding:
    # On a thread of its own: a name lookup takes no timeout, and must not hold up the others.
    found: list[Finding] = []
    thread = Thread(target=lambda: found.append(_guarded(check, setup)), daemon=True)
    thread.start()
    thread.join(check.timeout_s)
    return found[0] if found else fault(f"no answer within {check.timeout_s:g} s", UNREACHABLE)


def _guarded(check: Check, setup: Setup) -> Finding:
    try:
        return check.look(setup)
    except WorkerError as error:
        return fault(str(error), UNREACHABLE)
    except Exception as error:  # noqa: BLE001 - one check that breaks must not hide the others
        return fault(f"the check itself failed: {type(error).__name__}", "please report this")
