"""Parts that all checks share: the settings as far as they can be read, and a run in bounded time.

A broken setting must not hide the others, and no fault of one check stops the next.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from threading import Thread
from typing import Final, Self, cast

from pydantic import ValidationError

from worker.config.agents_file import load_agents
from worker.config.settings import (
    NOWHERE,
    SECRETS,
    Need,
    Settings,
    sandbox_dir,
    secret_from_file,
    wrong_setting,
)
from worker.domain.errors import SettingsError, WorkerError
from worker.domain.reports.finding import Finding, Level, fault, unchecked
from worker.domain.routing import Routing
from worker.domain.timing import Timing

CHECK_S: Final = 5.0
UNREACHABLE: Final = "see whether it can be reached from here: name, port, firewall"


# By identity: the answer of Celery is cached for one setup.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setup:
    """Settings and agents. Unreadable settings get values that connect to nothing."""

    settings: Settings
    wrong: Mapping[str, str]
    """Field -> one line that names it and the fix; these got other values."""
    routing: Routing
    timing: Timing
    agents_fault: str = ""
    """If the agents file is wrong; then routing and waits are the defaults."""

    @classmethod
    def read(cls) -> Self:
        """Read the environment and the running sandbox's file; raises nothing that they hold."""
        settings, wrong = _read_settings()
        (routing, timing), fault = load_agents(None), ""
        try:
            if "agents_file" not in wrong:
                routing, timing = load_agents(settings.agents_file)
        except SettingsError as error:
            fault = str(error)
        except (ValueError, TypeError, OSError) as error:
            fault = f"AGENTS_FILE: {type(error).__name__}"
        return cls(
            settings=settings, wrong=wrong, routing=routing, timing=timing, agents_fault=fault
        )


def _read_settings() -> tuple[Settings, dict[str, str]]:
    wrong: dict[str, str] = {}
    given: dict[str, object] = {}
    for name in SECRETS:
        try:
            if secret := secret_from_file(name.upper()):
                given[name] = secret
        except SettingsError as error:
            wrong[name], given[name] = str(error), NOWHERE[name]
    # One field at a time: validators that read several fields name only the first wrong one.
    while True:
        try:
            settings = Settings(_env_file=sandbox_dir() / "env", **given)  # type: ignore[arg-type]
        except ValidationError as error:
            field = cast("Need", error.errors()[0]["loc"][0])
            if field in wrong:
                raise SettingsError(wrong_setting(error)) from None
            wrong[field] = wrong_setting(error)
            given[field] = NOWHERE.get(field, Settings.model_fields[field].default)
        else:
            return settings, wrong


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `name` is unique."""

    group: str
    name: str
    look: Callable[[Setup], Finding]
    _: KW_ONLY
    needs: tuple[str, ...] = ()
    """Names of earlier checks without which this one makes no sense."""
    timeout_s: float = CHECK_S


def examine(checks: Iterable[Check], setup: Setup) -> Iterator[Finding]:
    """Run the checks in order; one that needs a failed one is not run."""
    failed: set[str] = set()
    for check in checks:
        missing = [name for name in check.needs if name in failed]
        finding = unchecked(f"{missing[0]} comes first") if missing else _within(check, setup)
        if finding.level in {Level.FAULT, Level.UNCHECKED}:
            failed.add(check.name)
        yield replace(finding, group=check.group, name=check.name)


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
