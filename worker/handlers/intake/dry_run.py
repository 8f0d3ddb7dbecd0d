"""What would become of an envelope: checked and routed as accepting does; nothing is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique

from worker.domain.messages import NewMessage
from worker.domain.routing import Agent, ChannelPolicy, Routing
from worker.envelope import EnvelopeError
from worker.handlers.intake.accept import parse_and_route
from worker.handlers.intake.unknown_fields import UnknownField, unknown_fields


@unique
class Verdict(StrEnum):
    """What would happen, as far as the envelope and the configuration say."""

    ANSWERED = "answered"
    """The model is asked; whether it answers, nobody knows beforehand."""
    SKIPPED = "skipped"
    EXPIRED = "expired"
    DEAD_LETTER = "dead_letter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a valid envelope goes."""

    message: NewMessage
    agent: Agent
    policy: ChannelPolicy
    delivery_policy: ChannelPolicy
    """Says how the reply is delivered: the channel's policy, or that of its route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """The verdict; `route` is None for what would be a dead letter."""

    verdict: Verdict
    why: str | None = None
    """The message's outcome, or the reason of the dead letter; None = it would be answered."""
    detail: str | None = None
    """Of a dead letter: which field, and what to give."""
    route: Route | None = None
    unknown: tuple[UnknownField, ...] = ()


def dry_run(document: object, routing: Routing, *, now: datetime) -> DryRun:
    """Say what would become of an envelope that was accepted at `now` and waited for nothing."""
    unknown = unknown_fields(map(str, document)) if isinstance(document, Mapping) else ()
    try:
        message = parse_and_route(document, routing)
    except EnvelopeError as error:
        return DryRun(
            verdict=Verdict.DEAD_LETTER, why=error.reason, detail=str(error), unknown=unknown
        )
    route = Route(
        message=message,
        agent=routing.agent(message.agent),
        policy=routing.channel(message.who.channel),
        delivery_policy=routing.delivery_policy(message.who.channel, message.reply_to),
    )
    if message.skip is not None:
        return DryRun(verdict=Verdict.SKIPPED, why=message.skip, route=route, unknown=unknown)
    if message.expires_at is not None and message.expires_at <= now:
        return DryRun(verdict=Verdict.EXPIRED, why="expired", route=route, unknown=unknown)
    return DryRun(verdict=Verdict.ANSWERED, route=route, unknown=unknown)
