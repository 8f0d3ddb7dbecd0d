"""Independent sections of the agents file: tools, budgets, limits."""

from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

MAX_SECONDS: Final = 1e9
"""31 years: no date is out of reach by them."""
MAX_COUNT: Final = 2**53


class Section(BaseModel):
    """Root of the sections. Unknown keys are refused: most are typos."""

    # Built when it is checked: a section inside another one never is, alone.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @field_validator("*")
    @classmethod
    def _has_a_bound(cls, value: object) -> object:
        """Refuse `inf` and numbers that no date and no column holds."""
        most = MAX_SECONDS if isinstance(value, float) else MAX_COUNT
        if isinstance(value, int | float) and not abs(value) <= most:
            raise ValueError(f"give at most {most:.0f}")
        return value


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
