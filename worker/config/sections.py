"""Independent sections of the agents file: tools, budgets, limits, deliveries."""

from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

_Item = TypeVar("_Item")
_OneOrMore: TypeAlias = Annotated[
    tuple[_Item, ...],
    BeforeValidator(lambda given: given if isinstance(given, list | tuple) else [given]),
]


class Section(BaseModel):
    """Root of the sections. Unknown keys are refused: most are typos."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ToolSection(Section):
    """`[tools.NAME]`: a function that agents may use."""

    description: str = ""
    parameters: dict[str, Any] | None = None
    function: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    secret_env: str | None = None
    secret_file: Path | None = None
    timeout_s: PositiveFloat = 20.0
    honours_key: bool | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.function is None) == (self.url is None):
            raise ValueError("give either function or url")
        if self.url is not None and (self.secret_env is None) == (self.secret_file is None):
            raise ValueError("a url needs either secret_env or secret_file, to sign with")
        # For a function the schema comes from its signature.
        if self.url is not None and self.parameters is None:
            raise ValueError("a url needs parameters, the JSON Schema of its arguments")
        return self


class BudgetSection(Section):
    """`[agents.NAME.budget]`: limits of an agent for a day."""

    messages_per_user: PositiveInt | None = None
    tokens_per_user: PositiveInt | None = None
    messages: PositiveInt | None = None
    tokens: PositiveInt | None = None
    text: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if all(value is None for name, value in self if name != "text"):
            raise ValueError("give one of messages_per_user, tokens_per_user, messages and tokens")
        return self


class LimitsSection(Section):
    """`[limits]`: limits for all workers together."""

    # Not below 0.25: an open turn waits at most 5 s for its next permit.
    calls_per_second: Annotated[float, Field(ge=0.25, le=10_000, allow_inf_nan=False)] | None = None


class FairnessSection(Section):
    """`[fairness]`: how many turns of one sender may be due before others go first."""

    turns_per_address: PositiveInt = 3
    turns_per_group: PositiveInt = 20
    group_digits: Annotated[int, Field(ge=0, le=10)] = 4


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


class ScreeningSection(Section):
    """`[channels.NAME.screening]`: what is recognised without a model."""

    languages: list[Annotated[str, Field(pattern=r"^[a-z]{2}$")]] = Field(default=["en"])
    help_text: Annotated[str, Field(min_length=1)] | None = None
    stop_text: Annotated[str, Field(min_length=1)] | None = None


class DeliverySection(BaseModel):
    """`[channels.NAME.delivery]`: a Celery task, a webhook, or a third party's channel."""

    # Not a `Section`: a third party's channel has options of its own, which we cannot know.
    model_config = ConfigDict(extra="allow", frozen=True)

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
