"""Agents, channels and routing: who answers, and how each channel is treated."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal

from worker.domain.errors import PermanentError
from worker.domain.fairness import Fairness
from worker.domain.messages import ChannelAddress
from worker.domain.people.policies import Approve, Disclosure, HandOver, Hours
from worker.domain.screening.consents import Person, ServiceText
from worker.domain.states import DeliveryState
from worker.domain.tools import ToolConfig
from worker.domain.ways_out import Delivery, MailDelivery, TelnyxDelivery

ChannelKind = Literal["telephone", "email", "other"]
AttachmentPolicy = Literal["mention", "skip"]
_KIND_BY_NAME: Final[Mapping[str, ChannelKind]] = {"sms": "telephone", "email": "email"}
ROUTE: Final = "route:"
"""Prefix of route names among those of channels, which contain no colon."""


class UnknownAgentError(PermanentError):
    """An envelope or a command names an agent that the configuration does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of an agent for a day of UTC; None = no limit."""

    messages_per_user: int | None = None
    tokens_per_user: int | None = None
    messages: int | None = None
    """For all users together, as is `tokens`."""
    tokens: int | None = None
    text: str | None = None
    """Sent once a day to a user who writes when it is used up; None = nothing is sent."""

    @property
    def counts_all(self) -> bool:
        """Whether there is a limit for all users together."""
        return self.messages is not None or self.tokens is not None


# Without slots: the hashes and the gates are cached in `__dict__`, because every claim reads them.
@dataclass(frozen=True, kw_only=True)
class Agent:
    """A named set of model and instructions."""

    name: str
    model: str
    instructions: str = ""
    call_timeout_s: float = 75.0
    """Time from the committed intent to the last byte of the answer."""
    fallback_text: str | None = None
    """Sent if the model returns no usable answer; None = the messages become dead letters."""
    partial_text: bool = False
    """The text of an incomplete answer may be sent."""
    max_turns: int = 300
    """After this number of turns a conversation is rotated: the next turn opens a new one."""
    stream: bool = False
    """The text is published while the model writes it, for web chats."""
    stream_idle_s: float = 30.0
    """Longest silence within a stream before it is given up."""
    tools: tuple[str, ...] = ()
    """Names of its tools."""
    tools_hash: str = ""
    """Changes with the configuration of those tools."""
    max_tool_rounds: int = 8
    """Tool rounds per turn; after that it must answer without tools."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Further fields of the request body (reasoning, service_tier, temperature, ...)."""
    budget: Budget | None = None
    """None = no limit."""
    approve: Approve = Approve.NONE
    """Which of its replies wait for a person."""
    hand_over: HandOver | None = None
    """None = it hands nothing over."""

    @cached_property
    def instructions_hash(self) -> str:
        """Changes with the instructions; a conversation remembers the last one sent."""
        return _digest(self.instructions)

    @cached_property
    def gates(self) -> tuple[str, str, str]:
        """The names of the gates that its calls pass."""
        return ("account", f"model:{self.model}", f"agent:{self.name}")

    @cached_property
    def version(self) -> str:
        """Changes with anything that shapes an answer; recorded on every turn."""
        shape = [self.model, self.instructions, dict(self.options), self.tools, self.tools_hash]
        return _digest(json.dumps(shape, sort_keys=True))


def implied_kind(channel: str) -> ChannelKind:
    """Return the kind of a channel whose section names none."""
    return _KIND_BY_NAME.get(channel, "other")


def hash_of(tools: Iterable[ToolConfig]) -> str:
    """Return the `tools_hash` of these tools."""
    fields = [
        [one.name, one.description, one.parameters and dict(one.parameters), one.function, one.url]
        for one in tools
    ]
    # Sorted: the order of keys in the file must not look like a change.
    return _digest(json.dumps(fields, sort_keys=True)) if fields else ""


def _digest(text: str) -> str:
    # 64 bits suffice to notice a change; the digest is stored with every turn.
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """How a channel recognises what no model answers, see `worker.domain.screening`."""

    languages: tuple[str, ...] = ("en",)
    """Whose keywords count; English always does."""
    help_text: str | None = None
    """The answer to HELP; None = it gets none of ours."""
    stop_text: str | None = None
    """Confirms an opt-out that the provider does not confirm; None = a text of ours does."""


@dataclass(frozen=True, kw_only=True)
class ChannelPolicy:
    """How a channel is treated. A channel that is not configured gets the defaults."""

    name: str
    kind: ChannelKind = "other"
    ignore_case: bool = False
    """Of an e-mail address, the part before the @ is lower-cased as well."""
    say_first: bool = False
    """Our staff may write to people who have never written."""
    agent: str | None = None
    """None = the default agent."""
    recipient_agents: Mapping[str, str] = field(default_factory=dict)
    persist: bool = True
    """False = stateless: calls carry no conversation."""
    idle_reset_s: float | None = None
    """A conversation that was idle for this long is not continued; None = it always is."""
    reorder_s: float = 0.2
    """How long a message with `sent_at` waits for an earlier one that is still in transit."""
    debounce_s: float = 0.0
    """How long a turn waits for the next message of a burst."""
    max_wait_s: float = 10.0
    """Upper bound of both, counted from the oldest waiting message; and of `supersede`."""
    supersede: bool = False
    """A reply is not delivered if newer messages wait: the next one covers all of them."""
    max_age_s: float | None = None
    """A message that is older than this when its turn would open is not answered."""
    expired_text: str | None = None
    """Sent once for messages that expired; None = nothing is sent."""
    delivery: Delivery | None = None
    """None = the reply row is the delivery."""
    screening: Screening = field(default_factory=Screening)
    loop_breaker: bool | None = None
    """A user who writes like a machine that answers ours is paused, see `domain.turns.loops`; None:
    see `breaks_loops`."""
    approve: Approve | None = None
    """Which replies wait for a person; None = as the agent says."""
    draft_max_age_s: float = 86_400.0
    """How long they wait."""
    disclosure: Disclosure | None = None
    """None = people are not told by us that an AI writes."""
    hours: Hours | None = None
    """None = replies go out at any time."""
    delivery_max_age_s: float = 3600.0
    """How long a reply may block the later ones of its user."""
    max_unclear_deliveries: int = 1
    """Attempts of unclear outcome on a channel without idempotency keys; 1 = at most once."""
    other_attachments: AttachmentPolicy = "mention"
    """For attachments other than images: mention them to the model, or skip the message."""
    max_pending: int = 1000
    """Waiting messages per user; further ones are skipped."""

    @property
    def breaks_loops(self) -> bool:
        """Whether the loop breaker is on. In a chat people write as fast as machines do."""
        return self.kind != "other" if self.loop_breaker is None else self.loop_breaker

    @property
    def scope(self) -> str:
        """Channels of one scope share the ledger of opt-outs: SMS, MMS and WhatsApp do."""
        return self.name if self.kind == "other" else self.kind

    def service_text(self, text: str) -> ServiceText:
        """Return a text of ours that this way out delivers."""
        return ServiceText(text=text, way_out=self.name, first_state=self.first_delivery_state)

    @property
    def first_delivery_state(self) -> DeliveryState:
        """State of a new reply's delivery: without a way out, the row itself delivers it."""
        return DeliveryState.SENT if self.delivery is None else DeliveryState.PENDING


@dataclass(frozen=True, kw_only=True)
class Routing:
    """All agents and channels of the configuration."""

    agents: Mapping[str, Agent]
    default_agent: str
    channels: Mapping[str, ChannelPolicy] = field(default_factory=dict)
    """Includes routes, their names with the prefix `ROUTE`: they only define the delivery."""
    tools: Mapping[str, ToolConfig] = field(default_factory=dict)
    calls_per_second: float | None = None
    """Limit for all workers together; None = no limit."""
    refusals: str | None = None
    """The way out, with the prefix `ROUTE`, that tells of refused messages; None = none does."""
    fairness: Fairness = field(default_factory=Fairness)

    def longest_step_s(self) -> float:
        """Return the longest time between two commits of one turn: a call, or a tool."""
        calls = (agent.call_timeout_s for agent in self.agents.values())
        return max((*calls, *(tool.timeout_s for tool in self.tools.values())))

    def channel(self, name: str) -> ChannelPolicy:
        """Return the policy of a channel; the defaults if it is not configured."""
        return self.channels.get(name) or ChannelPolicy(name=name, kind=implied_kind(name))

    def delivery_policy(self, channel: str, reply_to: str | None) -> ChannelPolicy:
        """Return the policy for delivering a reply: its route's, else its channel's."""
        # A route may have left the configuration since the message was accepted.
        route = None if reply_to is None else self.channels.get(ROUTE + reply_to)
        return route or self.channel(channel)

    def telnyx_policy(self, *, whatsapp: bool = False) -> ChannelPolicy | None:
        """Return the channel with that driver; None = there is none."""
        for one in self.channels.values():
            if isinstance(one.delivery, TelnyxDelivery) and one.delivery.whatsapp == whatsapp:
                return one
        return None

    def telnyx_channel(self, *, whatsapp: bool) -> str:
        """Return the name of that channel; without one, the name that it usually has."""
        policy = self.telnyx_policy(whatsapp=whatsapp)
        return policy.name if policy else "whatsapp" if whatsapp else "sms"

    @cached_property
    def mail_channel(self) -> tuple[ChannelPolicy, MailDelivery] | None:
        """The channel with a driver of e-mail, of which there is at most one, and its options."""
        for one in self.channels.values():
            if isinstance(one.delivery, MailDelivery):
                return one, one.delivery
        return None

    def has_route(self, reply_to: str | None) -> bool:
        """Return whether an envelope's `reply_to` names a route, or none."""
        return reply_to is None or ROUTE + reply_to in self.channels

    @cached_property
    def scopes(self) -> Mapping[str, str]:
        """The scope of each channel whose scope is not its name."""
        policies = map(self.channel, self.channels.keys() | _KIND_BY_NAME.keys())
        return {one.name: one.scope for one in policies if one.scope != one.name}

    @cached_property
    def disclosing(self) -> tuple[str, ...]:
        """The channels that tell people that an AI writes."""
        return tuple(name for name, one in self.channels.items() if one.disclosure is not None)

    @cached_property
    def timed(self) -> tuple[str, ...]:
        """The channels with hours for late replies."""
        return tuple(name for name, one in self.channels.items() if one.hours is not None)

    def person_at(self, to: ChannelAddress) -> Person:
        """Return the person behind a channel user."""
        return self.person(self.channel(to.channel).scope, to.address)

    def person(self, scope: str, address: str) -> Person:
        """Return who writes from an address of this scope."""
        names = {scope} | {name for name, other in self.scopes.items() if other == scope}
        groups = tuple(self.fairness.group_of(name, address) for name in sorted(names))
        return Person(scope=scope, address=address, groups=groups)

    def agent(self, name: str) -> Agent:
        """Return the agent of that name. Raises `UnknownAgentError`."""
        try:
            return self.agents[name]
        except KeyError:
            raise UnknownAgentError("the configuration has no such agent") from None

    def agent_for(self, *, channel: str, recipient: str, named: str | None) -> Agent:
        """Choose the agent: the envelope's, else by recipient, by channel, or the default."""
        policy = self.channel(channel)
        name = named or policy.recipient_agents.get(recipient) or policy.agent
        return self.agent(name or self.default_agent)
