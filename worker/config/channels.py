"""Sections of the agents file about ways in and out: channels, routes, and their options."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from worker.config.people import DisclosureSection, HoursSection, Language, disclosure_of
from worker.config.sections import Section
from worker.domain.deliveries import WEBHOOK_MAX_AGE_S
from worker.domain.errors import SettingsError
from worker.domain.people.policies import Approve
from worker.domain.routing import (
    AttachmentPolicy,
    ChannelKind,
    ChannelPolicy,
    Screening,
    implied_kind,
)
from worker.domain.ways_out import (
    Delivery,
    EntryPointDelivery,
    MailDelivery,
    TaskDelivery,
    TelnyxDelivery,
    WebhookDelivery,
)

Driver: TypeAlias = Literal["telnyx", "telnyx_whatsapp", "smtp", "telnyx_email"]
_DRIVERS: Final[Mapping[str, tuple[Driver, ...]]] = {
    "telnyx": ("telnyx", "telnyx_whatsapp"),
    "mail": ("smtp", "telnyx_email"),
}
"""The section of options -> the drivers that it is for."""
_Item = TypeVar("_Item")
_OneOrMore: TypeAlias = Annotated[
    tuple[_Item, ...],
    BeforeValidator(lambda given: given if isinstance(given, list | tuple) else [given]),
]
_Lower: TypeAlias = Annotated[str, AfterValidator(str.lower)]
_NOT_E164: Final = re.compile(r"(?!\+[1-9][0-9]+$)[+0-9 ().-]{9,}")
"""A telephone number as people write it. A short code has at most eight digits."""
_MailAddress: TypeAlias = Annotated[_Lower, Field(pattern=r"^[^@\s<>]+@[^@\s<>]+$")]


class TelnyxSection(Section):
    """`[channels.NAME.telnyx]`: options of a channel with a driver of Telnyx."""

    profile_id: Annotated[str, Field(min_length=1)] | None = None
    # Telnyx refuses more than ten, and nobody reads ten.
    max_parts: Annotated[int, Field(ge=1, le=10)] = 4
    split: bool = False
    groups: bool = False
    messages_per_second: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    messages_per_day: PositiveInt | None = None
    takes_key: bool = True


class MailSection(Section):
    """`[channels.NAME.mail]`: options of a channel with a driver of e-mail."""

    addresses: _OneOrMore[_MailAddress]
    name: str = ""
    authserv_id: Annotated[str, Field(min_length=1)] | None = None
    require_dmarc: bool = False
    forms: _OneOrMore[_MailAddress] = ()
    allow: _OneOrMore[_Lower] = ()
    per_domain_per_minute: PositiveInt = 20
    keep_raw: bool = False

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if not self.addresses:
            raise ValueError("addresses: give at least one")
        if self.require_dmarc and self.authserv_id is None:
            raise ValueError("require_dmarc needs authserv_id, the server whose word counts")
        return self


class ScreeningSection(Section):
    """`[channels.NAME.screening]`: what is recognised without a model."""

    languages: Annotated[list[Language], Field(min_length=1)] = Field(default=["en"])
    help_text: Annotated[str, Field(min_length=1)] | None = None
    stop_text: Annotated[str, Field(min_length=1)] | None = None


class DeliverySection(BaseModel):
    """`[channels.NAME.delivery]`: a Celery task, a webhook, or a third party's channel."""

    # Not a `Section`: a third party's channel has options of its own, which we cannot know.
    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    task: Annotated[str, Field(min_length=1)] | None = None
    queue: Annotated[str, Field(min_length=1)] | None = None
    url: str | None = None
    secret_env: _OneOrMore[str] = ()
    secret_file: _OneOrMore[Path] = ()
    allow_private: bool = False
    entry_point: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = {
            "task": {"task", "queue"},
            "url": {"url", "secret_env", "secret_file", "allow_private"},
            "entry_point": {"entry_point"},
        }
        given = self.model_fields_set & self.__class__.model_fields.keys()
        named = sorted(kinds.keys() & given)
        if len(named) != 1:
            raise ValueError("give one of task, url and entry_point")
        extra = {} if self.entry_point else self.model_extra or {}
        if unknown := sorted((given - kinds[named[0]]) | extra.keys()):
            raise ValueError(f"with {named[0]} there is no {unknown}")
        if self.task is not None and self.queue is None:
            raise ValueError("a task needs the queue that it goes to")
        if self.url is not None and bool(self.secret_env) == bool(self.secret_file):
            raise ValueError("a url needs either secret_env or secret_file, to sign with")
        return self


class RouteSection(Section):
    """`[routes.NAME]`: delivery of replies to messages whose `reply_to` is NAME."""

    delivery: DeliverySection | None = None
    delivery_max_age_s: PositiveFloat = 3600.0
    max_unclear_deliveries: PositiveInt = 1


class ChannelSection(RouteSection):
    """`[channels.NAME]`: treatment of one channel."""

    kind: ChannelKind | None = None
    driver: Driver | None = None
    telnyx: TelnyxSection | None = None
    mail: MailSection | None = None
    screening: ScreeningSection = ScreeningSection()
    ignore_case: bool = False
    say_first: bool = False
    agent: str | None = None
    recipients: dict[str, str] = Field(default_factory=dict)
    persist: bool = True
    idle_reset_s: PositiveFloat | None = None
    reorder_s: float = Field(default=0.2, ge=0)
    debounce_s: float = Field(default=0.0, ge=0)
    max_wait_s: PositiveFloat = 10.0
    supersede: bool = False
    max_age_s: PositiveFloat | None = None
    expired_text: Annotated[str, Field(min_length=1)] | None = None
    other_attachments: AttachmentPolicy = "mention"
    max_pending: PositiveInt = 1000
    loop_breaker: bool | None = None
    approve: Approve | None = None
    draft_max_age_s: PositiveFloat = 86_400.0
    disclosure: Literal["none"] | DisclosureSection | None = None
    hours: HoursSection | None = None

    @model_validator(mode="after")
    def _one_way_out(self) -> Self:
        if self.driver is None:
            if isinstance(self.disclosure, DisclosureSection):
                raise ValueError("disclosure needs a driver: without one, you write to the person")
            for given, named in ((self.telnyx, "telnyx"), (self.mail, "mail")):
                if given is not None:
                    wanted = " or ".join(f'"{one}"' for one in _DRIVERS[named])
                    raise ValueError(f"the section {named} needs driver = {wanted}")
            return self
        if self.delivery is not None:
            raise ValueError("with a driver there is no delivery: the driver sends the replies")
        kind: ChannelKind = "email" if self.driver in _DRIVERS["mail"] else "telephone"
        if self.kind not in {None, kind}:
            raise ValueError(f'with this driver the kind is "{kind}"')
        foreign = self.telnyx if kind == "email" else self.mail
        if foreign is not None:
            raise ValueError(f'driver = "{self.driver}" has another section of options')
        if kind == "email" and self.mail is None:
            raise ValueError("give the section mail, with addresses")
        # No message would ever be to it.
        wrong = (one for one in self.recipients if kind == "telephone" and _NOT_E164.fullmatch(one))
        if (number := next(wrong, None)) is not None:
            raise ValueError(f"recipients: {number}: give E.164, such as +13125550199")
        return self


def _delivery(section: DeliverySection | None, folder: Path) -> Delivery | None:
    if section is None:
        return None
    # The section has checked itself: the fields of one kind are set, and no others.
    if section.entry_point is not None:
        options = dict(section.model_extra or {})
        return EntryPointDelivery(entry_point=section.entry_point, options=options)
    if section.url is not None:
        files = tuple(folder / file for file in section.secret_file)
        fields = section.model_dump(include={"url", "secret_env", "allow_private"})
        return WebhookDelivery(secret_file=files, **fields)
    return TaskDelivery(**section.model_dump(include={"task", "queue"}))


def channel_policy(name: str, section: RouteSection, folder: Path) -> ChannelPolicy:
    """Return the policy of a section. `folder`: of the agents file. Raises `SettingsError`."""
    ours = {"recipients", "delivery", "driver", "telnyx", "mail", "screening"}
    ours |= {"disclosure", "hours"}
    fields = section.model_dump(exclude=ours)
    delivery = _delivery(section.delivery, folder)
    # Webhooks are retried for more than a day, so the default of the other channels is too short.
    unset = "delivery_max_age_s" not in section.model_fields_set
    if isinstance(delivery, WebhookDelivery) and unset:
        fields["delivery_max_age_s"] = WEBHOOK_MAX_AGE_S
    if isinstance(section, ChannelSection):
        fields |= {"recipient_agents": section.recipients}
        fields["kind"] = section.kind or implied_kind(name)
        screening = section.screening.model_dump()
        fields["screening"] = Screening(**screening | {"languages": tuple(screening["languages"])})
        if section.mail is not None:
            fields["kind"] = "email"
            telnyx = section.driver == "telnyx_email"
            delivery = MailDelivery(telnyx=telnyx, **section.mail.model_dump())
        elif section.driver is not None:
            fields["kind"] = "telephone"
            options = (section.telnyx or TelnyxSection()).model_dump()
            delivery = TelnyxDelivery(whatsapp=section.driver == "telnyx_whatsapp", **options)
        if section.ignore_case and fields["kind"] != "email":
            raise SettingsError(f'AGENTS_FILE: channels.{name}: ignore_case needs kind = "email"')
        fields["hours"] = None if section.hours is None else section.hours.value()
        fields["disclosure"] = disclosure_of(
            section.disclosure,
            driver=section.driver is not None,
            languages=section.screening.languages,
        )
    return ChannelPolicy(name=name, delivery=delivery, **fields)
