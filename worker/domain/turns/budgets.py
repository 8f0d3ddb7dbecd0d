"""What is left of an agent's budget when a turn would open.

Days are UTC, and a turn counts for the day on which it was opened. It opens while something is
left, and takes no more messages than are left. Its tokens are not known in advance, so the last
turn of a day may exceed the budget, as may turns that run at the same time.
"""

from dataclasses import dataclass, replace
from typing import Final

from worker.domain.messages import MAX_TURN_MESSAGES
from worker.domain.routing import Budget
from worker.domain.turns.next_step import Prepare, Release, Send
from worker.domain.turns.records import Snapshot

OVER_BUDGET: Final = "over_budget"
"""Outcome of messages that arrive when nothing is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """The use of an agent today, by one user and by all."""

    user_messages: int
    user_tokens: int
    messages: int
    """Of all users, like `tokens`; 0 unless a budget limits it."""
    tokens: int
    told: bool
    """Whether the budget's text was sent to the user today."""


def capacity(budget: Budget, used: Used) -> int:
    """Return the number of messages a new turn may take, at most `MAX_TURN_MESSAGES`."""
    tokens = ((budget.tokens_per_user, used.user_tokens), (budget.tokens, used.tokens))
    if any(limit is not None and spent >= limit for limit, spent in tokens):
        return 0
    messages = ((budget.messages_per_user, used.user_messages), (budget.messages, used.messages))
    left = [limit - spent for limit, spent in messages if limit is not None]
    return max(min(MAX_TURN_MESSAGES, *left), 0) if left else MAX_TURN_MESSAGES


def within(snapshot: Snapshot, step: Send | Prepare, left: int) -> Send | Prepare | Release:
    """Return the step with at most `left` messages; with none left, its messages end."""
    if left > 0:
        return replace(step, batch=step.batch[:left])
    more = len(step.batch) + len(step.expired) < len(snapshot.pending)
    return Release(
        due_at=snapshot.now if more else None,
        expired=step.expired,
        over_budget=tuple(one.id for one in step.batch),
    )
