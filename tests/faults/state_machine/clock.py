"""Time that stands still until the test moves it: Postgres's, Telnyx's and the workers' own."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.support.world import Database
from worker.net.clock import boottime

BEGINNING = datetime(2026, 3, 1, tzinfo=UTC)
_REPLACE_CLOCK = """
CREATE TABLE IF NOT EXISTS test_clock (now timestamptz NOT NULL);
CREATE OR REPLACE FUNCTION service_now() RETURNS timestamptz LANGUAGE sql STABLE
    AS 'SELECT now FROM test_clock';
CREATE OR REPLACE FUNCTION service_clock() RETURNS timestamptz LANGUAGE sql STABLE
    AS 'SELECT now FROM test_clock';
"""


def install_clock(database: Database) -> None:
    """Let `service_now()` of a test database read what the test says."""
    database.run(_REPLACE_CLOCK)
    database.run("INSERT INTO test_clock VALUES (%s)", BEGINNING)


@dataclass(kw_only=True)
class Clock:
    """One time for all. `on_advance` is told whenever it has moved."""

    database: Database
    on_advance: Callable[[], None]
    now_s: float = 0.0
    """Seconds since the beginning of the schedule."""
    _jumps: list[tuple[float, float]] = field(default_factory=list)

    def advance(self, seconds: float) -> None:
        """Move on."""
        self.now_s += seconds
        self._jumps.append((boottime(), seconds))
        self.database.run("UPDATE test_clock SET now = %s", self.moment())
        self.on_advance()

    def moment(self, ago_s: float = 0.0) -> datetime:
        """Give the time of so many seconds ago."""
        return BEGINNING + timedelta(seconds=self.now_s - ago_s)

    def jumped_since(self, started: float) -> float:
        """Give how far the clock was moved since a moment of the real `boottime()`."""
        return sum(seconds for at, seconds in self._jumps if at >= started)


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop whose sleepers wake when the test's clock says so."""

    now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def next_due_s(self) -> float:
        """Give when the next sleeper wakes."""
        timers = [timer._when for timer in self._scheduled if not timer._cancelled]  # type: ignore[attr-defined]
        return min(timers, default=float("inf"))

    def settle(self) -> None:
        """Run what is ready now, and what that makes ready."""
        self.run_until_complete(_some_turns())


async def _some_turns() -> None:
    for _ in range(12):
        await asyncio.sleep(0)
