"""Parts that all checks share: the settings as far as they can be read, and a run in bounded time.

A broken setting must not hide the others, and no fault of one check stops the next.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from threading import Thread
from typing import Final, Self

from worker.config.agents_file import load_agents
from worker.config.settings import EVERY, Settings, read_settings
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
        settings, wrong = read_settings(*EVERY)
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
