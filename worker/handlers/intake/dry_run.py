"""Dry run of an envelope: checked and routed as accepting does; nothing is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique

from worker.domain.messages import NewMessage
from worker.domain.routing import Agent, ChannelPolicy, Routing
from worker.envelope import EnvelopeError
from worker.handlers.intake.accept import UnknownField, parse_and_route, unknown_fields


@unique
class Verdict(StrEnum):
    """The result as far as the envelope and the configuration decide it."""

    ANSWERED = "answered"
    """The model would be called; its answer cannot be foreseen."""
    SKIPPED = "skipped"
    EXPIRED = "expired"
    DEAD_LETTER = "dead_letter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The route of a valid envelope."""

    message: NewMessage
    agent: Agent
    policy: ChannelPolicy
    delivery_policy: ChannelPolicy
    """The policy that decides about delivery: the channel's, or that of `reply_to`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """The result; `route` is None for a dead letter."""

    verdict: Verdict
    why: str | None = None
    """The outcome of the message, or the reason of the dead letter; None = it would be answered."""
    detail: str | None = None
    """For a dead letter: the field and the fix."""
    route: Route | None = None
    unknown: tuple[UnknownField, ...] = ()


def dry_run(document: object, routing: Routing, *, now: datetime) -> DryRun:
    """Return the result for an envelope that is accepted at `now` and waits for nothing."""
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
