"""Ends messages when their turn would open: too old, or over the budget. One text may go out.

A budget bounds the use of an agent today.

One user's use is counted from their turns of today. That of all users is in `budget_days`: a claim
adds its messages, the end of a call its tokens. Each user writes to one of `PARTS` rows, so that
two turns seldom wait for each other. Uncommitted use of others is not seen, so turns that run at
the same time may exceed a budget together.
"""

from collections.abc import Sequence

from worker.domain.ids import ChannelUserId, MessageRowId
from worker.domain.routing import Agent, Routing
from worker.domain.states import MessageState
from worker.domain.turns.budgets import OVER_BUDGET, Used, capacity, within
from worker.domain.turns.calls import CallOutcome, Done
from worker.domain.turns.next_step import Prepare, Send, Step
from worker.domain.turns.records import OpenTurn, Snapshot
from worker.store.limits.unanswered import end_messages
from worker.store.rows import value_of
from worker.store.sql import Connection, sql

# More rows a day and agent, fewer turns that wait for the commit of another.
PARTS = 16

_TODAY = "CAST(service_now() AT TIME ZONE 'UTC' AS date)"
MIDNIGHT = "date_trunc('day', service_now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"
# The inner query finds the last turn before midnight by an index: older turns are never read.
_USED = sql(f"""
WITH today AS MATERIALIZED (
    SELECT id, failure FROM turns
    WHERE channel_user_id = :user_id AND agent = :agent AND id > coalesce((
        SELECT id FROM turns WHERE channel_user_id = :user_id AND opened_at < {MIDNIGHT}
        ORDER BY channel_user_id DESC, id DESC LIMIT 1), 0)
), spent AS (
    SELECT messages, tokens FROM budget_days WHERE agent = :agent AND day = {_TODAY}
)
SELECT EXISTS (SELECT FROM today WHERE failure = :outcome) AS told,
    (SELECT superseding_since IS NOT NULL FROM channel_users WHERE id = :user_id) AS owes_reply,
    (SELECT count(*) FROM today JOIN messages m ON m.turn_id = today.id
     WHERE m.state IN ('answered', 'dead')) AS user_messages,
    CAST((SELECT coalesce(sum(coalesce(c.input_tokens, 0) + coalesce(c.output_tokens, 0)), 0)
     FROM today JOIN calls c ON c.turn_id = today.id) AS bigint) AS user_tokens,
    CAST((SELECT coalesce(sum(messages), 0) FROM spent) AS bigint) AS messages,
    CAST((SELECT coalesce(sum(tokens), 0) FROM spent) AS bigint) AS tokens
""")
# A row holds its latest day only: an earlier day is never read again, and a later one was written
# with a wrong clock.
_COUNT = sql(f"""
INSERT INTO budget_days AS b (agent, part, day, messages, tokens)
VALUES (:agent, :part,
    coalesce(CAST(CAST(:opened_at AS timestamptz) AT TIME ZONE 'UTC' AS date), {_TODAY}),
    :messages, :tokens)
ON CONFLICT (agent, part) DO UPDATE SET day = excluded.day,
    messages = excluded.messages + CASE WHEN b.day = excluded.day THEN b.messages ELSE 0 END,
    tokens = excluded.tokens + CASE WHEN b.day = excluded.day THEN b.tokens ELSE 0 END
WHERE b.day <= excluded.day OR b.day > {_TODAY}
""")


def within_budget(connection: Connection, snapshot: Snapshot, step: Step, routing: Routing) -> Step:
    """Return the step that the agent's budget allows; the caller has just claimed the user.

    Messages beyond the budget are ended here, those of the step are counted. An open turn always
    continues, and messages for a person are free. A turn that also answers the messages of a reply
    held back earlier opens in any case.
    """
    if not isinstance(step, Send | Prepare) or not step.batch:
        return step
    agent = routing.agent(step.agent)
    if agent.budget is None:
        return step
    row = connection.execute(_USED, _values(snapshot.lease.user_id, agent)).one()
    used = value_of(Used, row)
    allowed = step if row.owes_reply else within(snapshot, step, capacity(agent.budget, used))
    if isinstance(allowed, Send | Prepare):
        if agent.budget.counts_all:
            taken = {"opened_at": None, "messages": len(allowed.batch), "tokens": 0}
            connection.execute(_COUNT, _values(snapshot.lease.user_id, agent) | taken)
        return allowed
    text = None if used.told else agent.budget.text
    skipped = MessageState.SKIPPED
    _end(connection, snapshot, allowed.over_budget, routing, skipped, OVER_BUDGET, text)
    return allowed


def counted_tokens(agent: Agent, outcome: CallOutcome | None) -> int | None:
    """Return the tokens of a call to add to the use of all users; None = they are not counted."""
    if agent.budget is None or not agent.budget.counts_all or not isinstance(outcome, Done):
        return None
    return outcome.input_tokens + outcome.output_tokens


def count_tokens(
    connection: Connection, user_id: ChannelUserId, agent: Agent, turn: OpenTurn, tokens: int
) -> None:
    """Add `counted_tokens` to the day the turn opened; the caller has checked the lease."""
    values = {"opened_at": turn.opened_at, "messages": 0, "tokens": tokens}
    connection.execute(_COUNT, _values(user_id, agent) | values)


def _values(user_id: ChannelUserId, agent: Agent) -> dict[str, object]:
    return {
        "user_id": user_id,
        "agent": agent.name,
        "part": user_id % PARTS,
        "outcome": OVER_BUDGET,
    }


def expire(
    connection: Connection, snapshot: Snapshot, expired: Sequence[MessageRowId], routing: Routing
) -> None:
    """End messages that are too old; the caller has claimed the user."""
    text = routing.channel(snapshot.who.channel).expired_text
    _end(connection, snapshot, expired, routing, MessageState.EXPIRED, "expired", text)


def _end(
    connection: Connection,
    snapshot: Snapshot,
    ended: Sequence[MessageRowId],
    routing: Routing,
    state: MessageState,
    outcome: str,
    text: str | None,
) -> None:
    """End these messages, and send `text` once for all of them, unless the user is paused."""
    service = None
    if text is not None and not snapshot.paused:
        # The route of the oldest of them, as for a turn that answers several messages.
        first = next(message for message in snapshot.pending if message.id in ended)
        policy = routing.delivery_policy(snapshot.who.channel, first.reply_to)
        service = policy.service_text(text)
    user_id = snapshot.lease.user_id
    end_messages(connection, user_id, ended, outcome, state=state, service=service)
