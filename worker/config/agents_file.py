"""The agents file: agents, channels, tools and waits, in TOML."""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from worker.config.channels import ChannelSection, RouteSection, channel_policy
from worker.config.people import HandOverSection
from worker.config.sections import (
    MAX_SECONDS,
    BudgetSection,
    FairnessSection,
    LimitsSection,
    Section,
    ToolSection,
)
from worker.domain.errors import SettingsError
from worker.domain.fairness import Fairness
from worker.domain.people import hand_over
from worker.domain.people.drafts import ASK_FOR_REVIEW
from worker.domain.people.policies import Approve
from worker.domain.routing import ROUTE, Agent, Budget, Routing, hash_of
from worker.domain.timing import Timing
from worker.domain.tools import ToolConfig

DEFAULT_MODEL = "zai-org/GLM-5.3-Flash"

_Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class AgentSection(Section):
    """`[agents.NAME]`: a named set of model, instructions and tools."""

    model: str = DEFAULT_MODEL
    instructions: str = ""
    instructions_file: Path | None = None
    call_timeout_s: PositiveFloat = 75.0
    fallback_text: str | None = None
    partial_text: bool = False
    max_turns: PositiveInt = 300
    stream: bool = False
    stream_idle_s: PositiveFloat = 30.0
    tools: list[str] = Field(default_factory=list)
    max_tool_rounds: Annotated[int, Field(ge=1, le=32)] = 8
    reasoning_effort: _Effort | None = None
    service_tier: Literal["default", "priority", "flex"] | None = None
    region: Literal["USA", "EU", "AUS", "UAE"] | None = None
    region_mode: Literal["preferred", "strict"] | None = None
    max_output_tokens: PositiveInt | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    budget: BudgetSection | None = None
    approve: Approve = Approve.NONE
    hand_over: HandOverSection | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.region_mode is not None and self.region is None:
            raise ValueError("region_mode needs a region")
        if self.stream and self.approve is not Approve.NONE:
            raise ValueError("stream shows a reply before anybody can approve it: use one of them")
        named = {"model", "input", "conversation", "instructions", "tools", "stream"}
        if taken := (named | self.request_fields().keys()) & self.options.keys():
            raise ValueError(f"options may not hold {sorted(taken)}: there is a key for it")
        return self

    def request_fields(self) -> dict[str, object]:
        """Return the fields of the request body that have their own keys here."""
        effort = self.reasoning_effort
        fields = {
            "reasoning": None if effort is None else {"effort": effort},
            "service_tier": self.service_tier,
            "region": self.region,
            "mode": self.region_mode,
            "max_output_tokens": self.max_output_tokens,
            "temperature": self.temperature,
        }
        return {name: value for name, value in fields.items() if value is not None}


class AgentsFile(Section):
    """The whole TOML file."""

    default_agent: str = "default"
    agents: dict[str, AgentSection] = Field(default_factory=dict)
    channels: dict[str, ChannelSection] = Field(default_factory=dict)
    routes: dict[str, RouteSection] = Field(default_factory=dict)
    refusals: str | None = None
    # The Responses API refuses other names of functions.
    tools: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")], ToolSection] = Field(
        default_factory=dict
    )
    timing: dict[str, Annotated[float, Field(ge=0, le=MAX_SECONDS)]] = Field(default_factory=dict)
    limits: LimitsSection = LimitsSection()
    fairness: FairnessSection = FairnessSection()

    @field_validator("channels")
    @classmethod
    def _one_channel_a_driver(
        cls, channels: dict[str, ChannelSection]
    ) -> dict[str, ChannelSection]:
        # The gateway has to know the channel of what comes in.
        # A mail comes in the same way whatever driver sends the answer.
        drivers = [
            "smtp" if one.driver == "telnyx_email" else one.driver
            for one in channels.values()
            if one.driver is not None
        ]
        if twice := sorted({one for one in drivers if drivers.count(one) > 1}):
            raise ValueError(f"several channels have driver = {twice[0]!r}: keep one")
        return channels

    @field_validator("refusals")
    @classmethod
    def _has_its_route(cls, name: str, info: ValidationInfo) -> str:
        _check_notified(name, info.data.get("routes", {}))
        return name

    @model_validator(mode="after")
    def _hand_overs_have_theirs(self) -> Self:
        for name, agent in self.agents.items():
            if agent.hand_over is not None and agent.hand_over.notify is not None:
                try:
                    _check_notified(agent.hand_over.notify, self.routes)
                except ValueError as error:
                    raise ValueError(f"agents.{name}.hand_over.notify: {error}") from None
        return self


def _check_notified(route: str, routes: Mapping[str, RouteSection]) -> None:
    delivery = routes.get(route, RouteSection()).delivery
    # A third party's channel knows replies alone.
    if delivery is None or delivery.entry_point is not None:
        raise ValueError(f"give [routes.{route}.delivery] a task or a url")


_FIXES: Final = {
    "extra_forbidden": "no such key: is it a typo?",
    "dict_type": "give a section",
    "model_type": "give a section",
    "time_parsing": 'give a time such as "09:00"',
}
"""By pydantic's type of an error, where its own words name none."""


def load_agents(path: Path | None) -> tuple[Routing, Timing]:
    """Read agents, routing and waits; None = one default agent. Raises `SettingsError`."""
    if path is None:
        return _routing(AgentsFile(), Path()), Timing()
    try:
        parsed = AgentsFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise SettingsError(f"AGENTS_FILE: {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"AGENTS_FILE: {path} is not TOML: {error}") from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        fix = _FIXES.get(fault["type"], fault["msg"].removeprefix("Value error, "))
        raise SettingsError(f"AGENTS_FILE: {path}: {place}: {fix}") from None
    if unknown := sorted(parsed.timing.keys() - Timing.__dataclass_fields__.keys()):
        raise SettingsError(f"AGENTS_FILE: {path}: timing: unknown {unknown}")
    return _routing(parsed, path.parent), Timing(**parsed.timing)  # type: ignore[arg-type]


def _routing(parsed: AgentsFile, folder: Path) -> Routing:
    sections = parsed.agents or {parsed.default_agent: AgentSection()}
    agents = {name: _agent(name, section, folder) for name, section in sections.items()}
    ways = {**parsed.channels, **{ROUTE + name: one for name, one in parsed.routes.items()}}
    channels = {name: channel_policy(name, section, folder) for name, section in ways.items()}
    # Checked at start: a message for a missing agent would become a dead letter.
    named = {parsed.default_agent: "default_agent"}
    for name, policy in channels.items():
        for agent in filter(None, [policy.agent, *policy.recipient_agents.values()]):
            named.setdefault(agent, f"channels.{name}")
    for agent, place in named.items():
        if agent not in agents:
            raise SettingsError(f"AGENTS_FILE: {place}: there is no [agents.{agent}]")
    for name in {ASK_FOR_REVIEW, hand_over.TOOL_NAME} & parsed.tools.keys():
        fix = "the service has a tool of this name: choose another"
        raise SettingsError(f"AGENTS_FILE: tools.{name}: {fix}")
    tools = {name: _tool(name, section, folder) for name, section in parsed.tools.items()}
    for name, one in agents.items():
        if gone := sorted(set(one.tools) - tools.keys()):
            raise SettingsError(f"AGENTS_FILE: agents.{name}.tools: there is no [tools.{gone[0]}]")
        tools_hash = hash_of(tools[tool] for tool in one.tools)
        agents[name] = replace(one, tools_hash=tools_hash)
    return Routing(
        agents=agents,
        default_agent=parsed.default_agent,
        channels=channels,
        tools=tools,
        calls_per_second=parsed.limits.calls_per_second,
        refusals=parsed.refusals and ROUTE + parsed.refusals,
        fairness=Fairness(**parsed.fairness.model_dump()),
    )


def _agent(name: str, section: AgentSection, folder: Path) -> Agent:
    instructions = section.instructions
    if section.instructions_file is not None:
        file = folder / section.instructions_file
        try:
            instructions = file.read_text(encoding="utf-8-sig").strip()
        except OSError as error:
            raise SettingsError(
                f"AGENTS_FILE: agents.{name}: {file} cannot be read: {error.strerror}"
            ) from None
        except UnicodeDecodeError:
            raise SettingsError(f"AGENTS_FILE: agents.{name}: {file} is not UTF-8") from None
    # The remaining fields have the same name in the section and in the value.
    ours = {"name", "instructions", "options", "tools", "tools_hash", "budget", "hand_over"}
    return Agent(
        name=name,
        instructions=instructions,
        options=section.request_fields() | section.options,
        tools=tuple(section.tools),
        budget=None if section.budget is None else Budget(**section.budget.model_dump()),
        hand_over=None if section.hand_over is None else section.hand_over.value(),
        **section.model_dump(include=Agent.__dataclass_fields__.keys() - ours),
    )


def _tool(name: str, section: ToolSection, folder: Path) -> ToolConfig:
    # A receiver of signed POSTs gets the key in a header; of a function we cannot assume anything.
    honours_key = section.honours_key
    fields = section.model_dump(exclude={"honours_key", "secret_file"})
    return ToolConfig(
        name=name,
        honours_key=section.url is not None if honours_key is None else honours_key,
        secret_file=None if section.secret_file is None else folder / section.secret_file,
        **fields,
    )
