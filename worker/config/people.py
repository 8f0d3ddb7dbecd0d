"""Sections of the agents file about drafts, hand-over, disclosure and hours."""

from datetime import time
from typing import Annotated, Literal, Self, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from worker.config.sections import Section
from worker.domain.people.disclosure import LANGUAGES
from worker.domain.people.policies import Disclosure, HandOver, HandOverTrigger, Hours
from worker.domain.routing import ROUTE

_Text: TypeAlias = Annotated[str, Field(min_length=1)]
Language: TypeAlias = Annotated[str, Field(pattern=r"^[a-z]{2}$")]


class HandOverSection(Section):
    """`[agents.NAME.hand_over]`: when and how our staff takes over."""

    notify: str | None = None
    text: _Text | None = None
    words: list[_Text] = Field(default=["HUMAN"])
    tool: bool = True
    on: list[HandOverTrigger] = Field(default=list(HandOverTrigger))
    after_failed_turns: PositiveInt | None = 3

    def value(self) -> HandOver:
        """Return what it says."""
        return HandOver(
            notify=self.notify and ROUTE + self.notify,
            words=tuple(self.words),
            on=tuple(self.on),
            **self.model_dump(include={"text", "tool", "after_failed_turns"}),
        )


class DisclosureSection(Section):
    """`[channels.NAME.disclosure]`: how people are told that an AI writes to them."""

    language: Language | None = None
    text: _Text | None = None

    @model_validator(mode="after")
    def _has_a_text(self) -> Self:
        if self.text is None and self.language not in {None, *LANGUAGES}:
            raise ValueError(f"there is no default text in {self.language!r}: give text")
        return self


def disclosure_of(
    given: DisclosureSection | Literal["none"] | None, *, driver: bool, languages: list[str]
) -> Disclosure | None:
    """Return that of a channel. Without a driver, another service writes to the person."""
    if given == "none" or not driver:
        return None
    section = given or DisclosureSection()
    language = section.language or languages[0]
    if section.text is None and section.language is None and language not in LANGUAGES:
        language = "en"
    return Disclosure(language=language, text=section.text)


class HoursSection(Section):
    """`[channels.NAME.hours]`: when replies that are not immediate may go out."""

    from_: time = Field(alias="from")
    to: time
    zone: str
    late_after_s: PositiveFloat = 600.0
    recheck_after_s: PositiveFloat = 3600.0

    @field_validator("zone")
    @classmethod
    def _exists(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("there is no such time zone: give one such as Europe/Berlin") from None
        return name

    @model_validator(mode="after")
    def _has_a_length(self) -> Self:
        if self.from_.tzinfo is not None or self.to.tzinfo is not None:
            raise ValueError("from and to have no offset: zone says where they count")
        if self.from_ == self.to:
            raise ValueError("from and to are equal: leave the section out if there is no limit")
        return self

    def value(self) -> Hours:
        """Return what it says."""
        waits = self.model_dump(include={"late_after_s", "recheck_after_s"})
        return Hours(start=self.from_, end=self.to, zone=ZoneInfo(self.zone), **waits)
