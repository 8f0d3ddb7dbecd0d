"""The time zones of a telephone number, from Google's data of numbers: the extra `hours`."""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Zones: TypeAlias = Callable[[str], tuple[ZoneInfo, ...]]


def zones_by_number() -> Zones:
    """Return what finds the zones in which a number may be; none where it cannot be known.

    A number without a place of its own (toll-free, or of a country with several zones) has many:
    see `domain.people.hours`. Without the library, or for what is no number, there are none.
    """
    try:
        from phonenumbers import NumberParseException, parse  # noqa: PLC0415 - an extra
        from phonenumbers.timezone import time_zones_for_number  # noqa: PLC0415
    except ModuleNotFoundError:
        return lambda _: ()

    @lru_cache(maxsize=4096)
    def find(number: str) -> tuple[ZoneInfo, ...]:
        try:
            names = time_zones_for_number(parse(number))
        except NumberParseException:
            return ()
        return tuple(filter(None, map(_zone, names)))

    return find


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:  # Etc/Unknown
        return None
