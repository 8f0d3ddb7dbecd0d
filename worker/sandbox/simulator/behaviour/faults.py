"""Which request meets which fault: by its own header, by an order, or by chance, in that order.

The header is `X-Sim-Fault: stored_late; after_s=3`. An order waits for `count` requests that match,
after letting `skip` of them pass. Chances come from the configuration and a seed.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from worker.sandbox.simulator.behaviour.plans import FAULTS, Endpoint, Plan, plan_of
from worker.sandbox.simulator.record.values import Json

HEADER = "x-sim-fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which requests an order is for; None matches all."""

    endpoint: Endpoint | None = None
    """None: the fault's own endpoint."""
    conversation_id: str | None = None
    text: str | None = None
    """Somewhere in the raw body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultOrder:
    """A fault that waits for its requests."""

    fault: str
    match: Match = field(default_factory=Match)
    count: int | None = 1
    """How many requests it hits; None = all until it is taken back."""
    skip: int = 0
    changes: Json = field(default_factory=dict)
    """Parts of the plan, see `Plan`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The plan of one request, and why."""

    plan: Plan = field(default_factory=Plan)
    fault: str | None = None
    """None: none."""
    source: Literal["header", "injected", "chance"] = "header"


@dataclass(slots=True)
class _Waiting:
    order: FaultOrder
    plan: Plan
    passed: int = 0
    hit: int = 0

    @property
    def over(self) -> bool:
        return self.order.count is not None and self.hit >= self.order.count

    def takes(self, endpoint: Endpoint, conversation_id: str | None, body: str) -> bool:
        match = self.order.match
        wanted = match.endpoint or self.plan.endpoint
        if (
            wanted not in {endpoint, Endpoint.ANY}
            or (match.conversation_id not in {None, conversation_id})
            or (match.text is not None and match.text not in body)
        ):
            return False
        self.passed += 1
        return self.passed > self.order.skip


class FaultBook:
    """All orders and chances."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(f"faults {seed}")  # noqa: S311 - a seeded play, no secret
        self._waiting: list[_Waiting] = []

    def inject(self, order: FaultOrder) -> None:
        """Add an order; ValueError if its fault or its changes make no sense."""
        self._waiting.append(_Waiting(order, plan_of(order.fault, order.changes)))

    def clear(self) -> None:
        """Take back all orders; chances stay."""
        self._waiting.clear()

    def orders(self) -> tuple[FaultOrder, ...]:
        """Return the orders that still wait."""
        return tuple(each.order for each in self._waiting)

    def choose(
        self,
        *,
        endpoint: Endpoint,
        conversation_id: str | None,
        body: str,
        header: str | None,
        chances: Mapping[str, float],
    ) -> Choice:
        """Choose the fault that this request meets; ValueError on a header that makes no sense."""
        if header is not None:
            name, changes = _parsed(header)
            return Choice(plan=plan_of(name, changes), fault=name, source="header")
        for waiting in self._waiting:
            if waiting.takes(endpoint, conversation_id, body):
                waiting.hit += 1
                self._waiting = [each for each in self._waiting if not each.over]
                return Choice(plan=waiting.plan, fault=waiting.order.fault, source="injected")
        for name, chance in chances.items():
            if FAULTS[name].endpoint is endpoint and self._dice.random() < chance:
                return Choice(plan=FAULTS[name], fault=name, source="chance")
        return Choice()


def _parsed(header: str) -> tuple[str, Json]:
    name, *parts = (part.strip() for part in header.split(";"))
    changes: Json = {}
    for part in parts:
        key, _, value = part.partition("=")
        changes[key.strip()] = value.strip()
    return name, changes
