"""What of an agent's budget is left when a turn would open.

A day is one of UTC, and a turn counts for the day on which it was opened. It opens while something
is left. Of messages it takes no more than that; how many tokens it will use nobody knows, so the
last turn of a day goes beyond, as do those that are under way at the same moment.
"""

from dataclasses import dataclass, replace
from typing import Final

from worker.domain.messages import MAX_TURN_MESSAGES
from worker.domain.routing import Budget
from worker.domain.turns.next_step import Prepare, Release, Send
from worker.domain.turns.records import Snapshot

OVER_BUDGET: Final = "over_budget"
"""Outcome of messages that came when nothing was left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What of an agent was used today, by one user and by all."""

    user_messages: int
    user_tokens: int
    messages: int
    """Of all users, as far as it is counted, which a budget asks for; so are `tokens`."""
    tokens: int
    told: bool
    """Whether the user has had the budget's text today."""


def capacity(budget: Budget, used: Used) -> int:
    """Give how many messages a new turn may take; never more than a turn does anyway."""
    tokens = ((budget.tokens_per_user, used.user_tokens), (budget.tokens, used.tokens))
    if any(limit is not None and spent >= limit for limit, spent in tokens):
        return 0
    messages = ((budget.messages_per_user, used.user_messages), (budget.messages, used.messages))
    left = [limit - spent for limit, spent in messages if limit is not None]
    return max(min(MAX_TURN_MESSAGES, *left), 0) if left else MAX_TURN_MESSAGES


def within(snapshot: Snapshot, step: Send | Prepare, left: int) -> Send | Prepare | Release:
    """Give the step with as many messages as are left; with none, what it would open ends."""
    if left > 0:
        return replace(step, batch=step.batch[:left])
    more = len(step.batch) + len(step.expired) < len(snapshot.pending)
    return Release(
        due_at=snapshot.now if more else None,
        expired=step.expired,
        over_budget=tuple(one.id for one in step.batch),
    )
