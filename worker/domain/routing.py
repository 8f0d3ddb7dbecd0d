"""Agents, channels and routing: who answers what, and how patiently."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, TypeAlias

from worker.domain.errors import PermanentError
from worker.domain.states import DeliveryState
from worker.domain.tools import ToolConfig

ChannelKind = Literal["telephone", "email", "other"]
AttachmentPolicy = Literal["mention", "skip"]


ROUTE: Final = "route:"
"""Begins the names of routes where they stand among channels, whose names have no colon."""


class UnknownRouteError(PermanentError):
    """An envelope names a route that the configuration does not have."""


class UnknownAgentError(PermanentError):
    """An envelope or a route names an agent that the configuration does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much of an agent a day of UTC has; None = no limit."""

    messages_per_user: int | None = None
    tokens_per_user: int | None = None
    messages: int | None = None
    """Of all users together; so are `tokens`."""
    tokens: int | None = None
    text: str | None = None
    """Said once a day to who writes when nothing is left; None = nothing is."""

    @property
    def counts_all(self) -> bool:
        """Whether it limits more than each user by himself."""
        return self.messages is not None or self.tokens is not None


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A named set of model and instructions."""

    name: str
    model: str
    instructions: str = ""
    call_timeout_s: float = 75.0
    """From the committed intent to the last byte of the answer."""
    fallback_text: str | None = None
    """Sent when the model gives no usable answer; None = the messages become dead letters."""
    partial_text: bool = False
    """Whether the text of an incomplete answer may be sent."""
    max_turns: int = 300
    """A conversation that has had so many turns is rotated: the next one opens afresh."""
    stream: bool = False
    """Whether the text is published while it is made, for web chats."""
    stream_idle_s: float = 30.0
    """The longest silence within a stream before it is given up."""
    tools: tuple[str, ...] = ()
    """Names of the tools that it may use."""
    tools_hash: str = ""
    """Changes when what is configured of those tools changes."""
    max_tool_rounds: int = 8
    """So often may it ask for tools within one turn; then it has to answer with what it knows."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Further fields of the request body (reasoning, service_tier, temperature, ...)."""
    budget: Budget | None = None
    """None = whatever it takes."""

    @cached_property
    def instructions_hash(self) -> str:
        """Changes when the instructions change; a conversation remembers the last one sent."""
        return _digest(self.instructions)

    @cached_property
    def version(self) -> str:
        """Changes when anything that shapes an answer changes; recorded on every turn."""
        return _digest(
            json.dumps(
                [self.model, self.instructions, dict(self.options), self.tools, self.tools_hash],
                sort_keys=True,
            )
        )


def hash_of(tools: Iterable[ToolConfig]) -> str:
    """Give the `tools_hash` of these."""
    said = [
        [one.name, one.description, one.parameters and dict(one.parameters), one.function, one.url]
        for one in tools
    ]
    return _digest(json.dumps(said, sort_keys=True)) if said else ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDelivery:
    """Replies go out as a Celery task of the producer."""

    task: str
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDelivery:
    """Replies go out as signed POSTs."""

    url: str
    secret_env: tuple[str, ...] = ()
    """Environment variables with the keys to sign with; several while a key is rotated."""
    secret_file: tuple[Path, ...] = ()
    """The same in files."""
    allow_private: bool = False
    """Whether the URL may lead to an address that is not public, and may be http."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPointDelivery:
    """Replies go out by a channel of a third party."""

    entry_point: str
    """A name in the entry points' group `worker.channels`."""
    options: Mapping[str, object] = field(default_factory=dict)


Delivery: TypeAlias = TaskDelivery | WebhookDelivery | EntryPointDelivery


@dataclass(frozen=True, kw_only=True)
class ChannelPolicy:
    """How one channel is treated; one that the configuration does not name gets the defaults."""

    name: str
    kind: ChannelKind = "other"
    agent: str | None = None
    """None = the default agent."""
    recipient_agents: Mapping[str, str] = field(default_factory=dict)
    persist: bool = True
    """False = stateless: calls carry no conversation."""
    idle_reset_s: float | None = None
    """A conversation that has rested for so long is not taken up again; None = it always is."""
    reorder_s: float = 0.2
    """How long a message with `sent_at` waits for an earlier one that is still on its way."""
    debounce_s: float = 0.0
    """How long a turn waits for the next message of a burst."""
    max_wait_s: float = 10.0
    """Upper bound of both, counted from the oldest waiting message; and of `supersede`."""
    supersede: bool = False
    """A reply is not delivered when newer messages wait: the next one covers them all."""
    max_age_s: float | None = None
    """A message sent longer ago is not answered when its turn would open."""
    expired_text: str | None = None
    """Said once where messages were too old, or over their `expires_at`; None = nothing is."""
    delivery: Delivery | None = None
    """None = the reply row is the delivery."""
    delivery_max_age_s: float = 3600.0
    """How long one reply may block those behind it."""
    max_unclear_deliveries: int = 1
    """For ways out that know no idempotency key; 1 = at most once."""
    other_attachments: AttachmentPolicy = "mention"
    """What becomes of a message with an attachment that is no image: the model is told that there
    is one, or the message is not answered."""
    max_pending: int = 1000
    """So many messages of one user wait at most; further ones are skipped."""

    @property
    def first_delivery_state(self) -> DeliveryState:
        """What a new reply's delivery begins with: kept in Postgres, it is done."""
        return DeliveryState.SENT if self.delivery is None else DeliveryState.PENDING


@dataclass(frozen=True, kw_only=True)
class Routing:
    """All agents and channels of the configuration."""

    agents: Mapping[str, Agent]
    default_agent: str
    channels: Mapping[str, ChannelPolicy] = field(default_factory=dict)
    """Routes too, with `ROUTE` before their names: of those only the delivery counts."""
    tools: Mapping[str, ToolConfig] = field(default_factory=dict)
    calls_per_second: float | None = None
    """Of all workers together; None = as fast as they come."""

    def channel(self, name: str) -> ChannelPolicy:
        """Give the policy of a channel, the defaults where it is not configured."""
        return self.channels.get(name) or ChannelPolicy(name=name)

    def delivery_policy(self, channel: str, reply_to: str | None) -> ChannelPolicy:
        """Give what says how a reply is delivered: its route; where that is gone, its channel."""
        route = None if reply_to is None else self.channels.get(ROUTE + reply_to)
        return route or self.channel(channel)

    def check_route(self, reply_to: str | None) -> None:
        """Raise `UnknownRouteError` where an envelope's `reply_to` names none."""
        if reply_to is not None and ROUTE + reply_to not in self.channels:
            raise UnknownRouteError("the configuration has no such route")

    def agent(self, name: str) -> Agent:
        """Give the agent of that name; raises `UnknownAgentError`."""
        try:
            return self.agents[name]
        except KeyError:
            raise UnknownAgentError("the configuration has no such agent") from None

    def agent_for(self, *, channel: str, recipient: str, named: str | None) -> Agent:
        """Choose who answers: as the envelope says, else recipient, channel, the default."""
        policy = self.channel(channel)
        name = named or policy.recipient_agents.get(recipient) or policy.agent
        return self.agent(name or self.default_agent)
