"""The finding of one check of an installation. It names no address, password, key or text."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    """It works, but somebody should know."""
    FAULT = "fault"
    UNCHECKED = "not checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check; its fields are those of a line of the report, in order."""

    group: str = ""
    """Empty until it is part of a report, as is `name`."""
    name: str = ""
    level: Level
    found: str
    fix: str = ""
    """One line; empty if nothing is to be done."""


def ok(found: str) -> Finding:
    """Return a finding without fault."""
    return Finding(level=Level.OK, found=found)


def warning(found: str, fix: str) -> Finding:
    """Return a finding that somebody should know."""
    return Finding(level=Level.WARNING, found=found, fix=fix)


def fault(found: str, fix: str) -> Finding:
    """Return a fault."""
    return Finding(level=Level.FAULT, found=found, fix=fix)


def unchecked(why: str) -> Finding:
    """Return the finding of a check that could not be made."""
    return Finding(level=Level.UNCHECKED, found=why)
