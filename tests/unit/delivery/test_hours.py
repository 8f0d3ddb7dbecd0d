"""When late replies may go out: in every zone, through two years of changes of clocks."""

from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.people.hours import next_opening
from worker.domain.people.policies import Hours

ZONES = sorted(available_timezones() - {"localtime", "posixrules", "Factory"})
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
BERLIN, CHICAGO = ZoneInfo("Europe/Berlin"), ZoneInfo("America/Chicago")


def hours(start: str, end: str, zone: ZoneInfo = BERLIN) -> Hours:
    return Hours(start=time.fromisoformat(start), end=time.fromisoformat(end), zone=zone)


def local(text: str, zone: ZoneInfo = BERLIN) -> datetime:
    # Python finds moments unequal that come twice, unless both are in UTC.
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


def inside(moment: datetime, window: Hours, zone: ZoneInfo) -> bool:
    """By the clock there, as a person would read it."""
    shown = moment.astimezone(zone).time()
    if window.start < window.end:
        return window.start <= shown < window.end
    return shown >= window.start or shown < window.end


@pytest.mark.parametrize(
    ("window", "now", "opens"),
    [
        (("08:00", "21:00"), "2026-06-01T12:00", "2026-06-01T12:00"),
        (("08:00", "21:00"), "2026-06-01T07:59:59", "2026-06-01T08:00"),
        (("08:00", "21:00"), "2026-06-01T20:59:59", "2026-06-01T20:59:59"),
        (("08:00", "21:00"), "2026-06-01T21:00", "2026-06-02T08:00"),
        (("08:00", "21:00"), "2026-06-01T23:50", "2026-06-02T08:00"),
        (("20:00", "02:00"), "2026-06-01T23:50", "2026-06-01T23:50"),
        (("20:00", "02:00"), "2026-06-02T01:59", "2026-06-02T01:59"),
        (("20:00", "02:00"), "2026-06-02T02:00", "2026-06-02T20:00"),
        # 02:30 does not exist on that day: the clocks go from 02:00 to 03:00.
        (("02:30", "06:00"), "2026-03-29T01:00", "2026-03-29T03:00"),
        (("02:15", "02:45"), "2026-03-29T01:00", "2026-03-30T02:15"),
        (("08:00", "02:30"), "2026-03-29T01:59", "2026-03-29T01:59"),
        (("08:00", "02:30"), "2026-03-29T03:00", "2026-03-29T08:00"),
        # 02:30 comes twice: the first one counts.
        (("02:30", "06:00"), "2026-10-25T01:00", "2026-10-25T02:30"),
    ],
)
def test_the_next_opening(window: tuple[str, str], now: str, opens: str) -> None:
    assert next_opening(local(now), hours(*window), ()) == local(opens)


def test_an_end_that_comes_twice_is_the_first() -> None:
    window = hours("08:00", "02:30")
    second = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)  # 02:15 for the second time
    assert next_opening(second, window, ()) == local("2026-10-25T08:00")


def test_all_zones_of_a_person_count() -> None:
    window = hours("08:00", "21:00", CHICAGO)
    zones = (ZoneInfo("America/New_York"), ZoneInfo("America/Los_Angeles"))
    night = local("2026-06-01T23:50", CHICAGO)
    assert next_opening(night, window, zones) == local("2026-06-02T08:00", zones[1])
    evening = local("2026-06-01T21:30", zones[0])
    assert next_opening(evening, window, zones) == local("2026-06-02T08:00", zones[1])


def test_zones_without_a_common_time_leave_that_of_the_channel() -> None:
    window = hours("09:00", "10:00", CHICAGO)
    zones = (ZoneInfo("Asia/Tokyo"), CHICAGO)
    night = local("2026-06-01T23:50", CHICAGO)
    assert next_opening(night, window, zones) == local("2026-06-02T09:00", CHICAGO)


@settings(max_examples=400, deadline=None)
@given(
    name=st.sampled_from(ZONES),
    minutes=st.integers(0, 2 * 365 * 24 * 60),
    start=st.integers(0, 95),
    length=st.integers(1, 95),
)
def test_a_reply_leaves_within_the_hours_and_as_early_as_it_may(
    name: str, minutes: int, start: int, length: int
) -> None:
    zone, now = ZoneInfo(name), FIRST + timedelta(minutes=minutes)
    quarter = [time(number // 4, number % 4 * 15) for number in range(96)]
    window = Hours(start=quarter[start], end=quarter[(start + length) % 96], zone=zone)
    opens = next_opening(now, window, ())
    assert opens >= now
    assert opens.utcoffset() == timedelta(0)
    assert inside(opens, window, zone)
    assert opens - now <= timedelta(days=3)
    # Nothing before it was within the hours. Of an hour that comes twice, only the first counts.
    moment = now
    while moment < opens:
        shown = moment.astimezone(zone)
        assert not inside(moment, window, zone) or repeats_a_day(shown)
        moment += timedelta(minutes=15)


def repeats_a_day(shown: datetime) -> bool:
    """Whether the clocks were set back within the day around it."""
    before, after = shown - timedelta(days=1), shown + timedelta(days=1)
    return (before.utcoffset() or timedelta()) > (after.utcoffset() or timedelta())


def test_every_change_of_clocks_in_two_years() -> None:
    changes = set()
    for zone in map(ZoneInfo, ZONES):
        window = hours("08:00", "21:00", zone)
        for day in changes_of(zone):
            # Zones that change alike, two days around, are one case.
            moments = tuple(day + timedelta(hours=hour) for hour in range(-24, 72))
            clocks = tuple(moment.astimezone(zone).utcoffset() for moment in moments)
            if (day, clocks) in changes:
                continue
            changes.add((day, clocks))
            for now in moments[24:60]:
                opens = next_opening(now, window, ())
                assert inside(opens, window, zone), (zone, now)
                assert inside(now, window, zone) == (opens == now), (zone, now)
    assert len(changes) > 100


def changes_of(zone: ZoneInfo) -> list[datetime]:
    """Midnights in UTC of the days in which the clocks change there."""
    days = [FIRST + timedelta(days=n) for n in range(2 * 366)]
    offsets = [day.astimezone(zone).utcoffset() for day in days]
    return [day for day, (one, next_) in zip(days, pairwise(offsets), strict=False) if one != next_]
