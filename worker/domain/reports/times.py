"""Times and lengths of time, as a person reads them."""

from datetime import UTC, datetime
from typing import Final

_UNITS: Final = ((172_800, 86_400, "d"), (7_200, 3_600, "h"), (120, 60, "min"))
"""Seconds from which on this unit is used: 90 s is more precise than 2 min."""


def span(seconds: float) -> str:
    """Format a length of time: `2.5 s`, `90 s`, `3 min`."""
    seconds = abs(seconds)
    for least, size, unit in _UNITS:
        if seconds >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"  # noqa: PLR2004 - two digits


def moment(at: datetime, now: datetime) -> str:
    """Format a time and its distance: `12:00:03Z, in 2.0 s`; with the date if it is another day."""
    distance = (at - now).total_seconds()
    phrase = f"in {span(distance)}" if distance > 0 else f"{span(distance)} ago"
    return f"{clock(at, now)}, {phrase}"


def clock(at: datetime, now: datetime) -> str:
    """Format a time alone; with the date if it is another day."""
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    form = "%H:%M:%SZ" if at.date() == now.date() else "%Y-%m-%d %H:%M:%SZ"
    return at.strftime(form)
