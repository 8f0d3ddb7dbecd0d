"""When a reply that is not immediate may go out: within the hours of each zone of the person.

A day's window is from `start` to before `end`, both as a wall clock shows them there; with an `end`
before `start` it ends on the next day. A `start` within the hour that a change of clocks leaves out
is the moment of the change; of an hour that comes twice, it is the first (PEP 495, fold=0). So an
`end` is the first one, too: nothing goes out in the repeated hour after it.
"""

from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from worker.domain.people.policies import Hours

_DAY = timedelta(days=1)
_LOOK_DAYS = 14
"""Zones that are hours apart may have no common time on a day; after this many, there is none."""


def next_opening(now: datetime, hours: Hours, zones: Collection[ZoneInfo]) -> datetime:
    """Return the first moment from `now` on that is within the hours of all zones.

    Zones that have no common time: within those of the channel's zone alone. `now` is aware; so is
    the result, in UTC.
    """
    now = now.astimezone(UTC)
    places = tuple(zones) or (hours.zone,)
    found = _common(now, hours, places)
    return found or _common(now, hours, (hours.zone,)) or now


def _common(now: datetime, hours: Hours, zones: tuple[ZoneInfo, ...]) -> datetime | None:
    moment, limit = now, now + _LOOK_DAYS * _DAY
    while moment < limit:
        later = max(_opening(moment, hours, zone) for zone in zones)
        if later == moment:
            return moment
        moment = later
    return None


def _opening(moment: datetime, hours: Hours, zone: ZoneInfo) -> datetime:
    """Return the first moment from this one on that is within the hours of one zone."""
    today = moment.astimezone(zone).date()
    return min(max(moment, begin) for begin, end in _windows(today, hours, zone) if end > moment)


def _windows(today: date, hours: Hours, zone: ZoneInfo) -> Iterator[tuple[datetime, datetime]]:
    """Yield the windows of the days around one: an evening's may reach into today."""
    over_midnight = hours.end < hours.start
    for days in range(-1, 4):
        day = today + timedelta(days=days)
        begin = _moment(day, hours.start, zone)
        end = _moment(day + _DAY if over_midnight else day, hours.end, zone)
        # A change of clocks may leave nothing of it.
        if begin < end:
            yield begin, end


def _moment(day: date, clock: time, zone: ZoneInfo) -> datetime:
    """Return when a clock there shows this time; if it never does, the end of the gap."""
    local = datetime.combine(day, clock, zone)
    moment = local.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return moment
    # In a gap. Read with the offset after the change (fold=1), the time is before the change, and
    # with that before it (fold=0) after it; the change is where the offset changes in between.
    early = local.replace(fold=1).astimezone(UTC)
    late = moment
    offset = early.astimezone(zone).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = (early + (late - early) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == offset:
            early = middle
        else:
            late = middle
    return late
