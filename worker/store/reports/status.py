"""Counts and ages of the whole installation, each defined once. Reads only.

`worker status`, `worker stuck` and `worker metrics` are made of these.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from worker.domain.reports.message_history import ClosedGate
from worker.domain.reports.stuck import Waiting
from worker.store.limits.gates import CLOSED_GATES
from worker.store.revisions import RevisionStore
from worker.store.rows import INBOX_IS_DUE, OPEN_TURNS, PENDING
from worker.store.sql import Row, Statement, sql
from worker.store.workers import LivingWorker, LivingWorkers


def _counted_since(at: str) -> str:
    """Return the columns of a `Waiting` beside name and state."""
    return f"""count(*) AS count, min({at}) AS since,
    CAST(extract(epoch FROM service_now() - min({at})) AS float8) AS age_s"""


# Pending messages have a partial index, users and a turn's messages are found by key. OFFSET 0
# keeps it at that: flattened into a join, the planner would read all of those tables.
_UNANSWERED = sql(f"""
WITH opened AS MATERIALIZED (
    SELECT t.id, t.channel_user_id, u.diverged_at IS NOT NULL AS stopped
    FROM ({OPEN_TURNS}) AS t, LATERAL (
        SELECT diverged_at FROM channel_users WHERE id = t.channel_user_id OFFSET 0) AS u
), stopped AS MATERIALIZED (
    SELECT channel_user_id FROM opened WHERE stopped
    UNION SELECT channel_user_id FROM erasures WHERE finished_at IS NULL
), unanswered AS (
    SELECT agent, state, accepted_at, channel_user_id IN (
        SELECT channel_user_id FROM stopped) AS stopped
    FROM messages WHERE {PENDING}
    UNION ALL
    SELECT m.agent, m.state, m.accepted_at, o.stopped
    FROM opened o, LATERAL (SELECT agent, state, accepted_at FROM messages
        WHERE turn_id = o.id AND state = 'in_turn' OFFSET 0) AS m
)
SELECT agent AS name, state, stopped, {_counted_since("accepted_at")}
FROM unanswered WHERE accepted_at <= service_now() - :after GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
""")
_UNDELIVERED = sql(f"""
SELECT channel AS name, state, {_counted_since("created_at")}
FROM (SELECT channel, state, coalesce(counts_from, created_at) AS created_at FROM deliveries
    WHERE state IN ('pending', 'sending')) AS undone
WHERE created_at <= service_now() - :after
GROUP BY 1, 2 ORDER BY 1, 2
""")
_DRAFTS = sql(f"""
SELECT t.agent AS name, 'held' AS state, {_counted_since("d.created_at")}
FROM deliveries d, LATERAL (SELECT turn_id FROM replies WHERE id = d.reply_id OFFSET 0) AS r,
    LATERAL (SELECT agent FROM turns WHERE id = r.turn_id OFFSET 0) AS t
WHERE d.state = 'held' GROUP BY 1 ORDER BY 1
""")
_INBOX = sql(f"""
SELECT 'inbox' AS name, 'waiting' AS state, {_counted_since("since")}
FROM (SELECT greatest(created_at, not_before) AS since FROM inbox WHERE {INBOX_IS_DUE}) AS due
WHERE since <= service_now() - :after HAVING count(*) > 0
""")
# A diverged user stays due. One who is being erased counts there alone.
_STOPPED = sql("""
WITH erasing AS MATERIALIZED (SELECT channel_user_id FROM erasures WHERE finished_at IS NULL)
SELECT (SELECT count(*) FROM erasing) AS erasing,
    (SELECT count(*) FROM channel_users u WHERE due_at IS NOT NULL AND diverged_at IS NOT NULL
        AND id NOT IN (SELECT channel_user_id FROM erasing)) AS diverged
""")
_IN_WORK = sql(f"""
SELECT (SELECT count(*) FROM ({OPEN_TURNS}) AS open_turns) AS turns,
    (SELECT count(*) FROM calls WHERE state = 'intended') AS calls
""")
_GATES = sql("""
SELECT name, greatest(extract(epoch FROM closed_until - service_now()), 0) FROM gates
""")
_DEAD_LETTERS = sql("""
SELECT reason, count(*) FROM dead_letters WHERE resolution IS NULL GROUP BY reason
""")
_OPTED_OUT = sql("""
SELECT source, count(*) FROM consents c
WHERE stopped AND NOT EXISTS (
    SELECT FROM consents n WHERE n.address_hash = c.address_hash AND n.id > c.id)
GROUP BY 1
""")
# These read whole tables: for a person who asks, never for a scrape.
_MESSAGES = sql("""
SELECT state, count(*) AS count, count(*) FILTER (WHERE conflicts > 0) AS conflicts
FROM messages GROUP BY state
""")
_DELIVERIES = sql("""
SELECT CASE WHEN state = 'sent' AND attempts = 0 THEN 'kept' ELSE state END, count(*)
FROM deliveries GROUP BY 1
""")
_PAUSED = sql("""
SELECT coalesce(pause_reason, 'operator'), count(*)
FROM channel_users WHERE paused_at IS NOT NULL GROUP BY 1
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The first questions of an operator."""

    workers: tuple[LivingWorker, ...]
    messages: Mapping[str, int]
    """State -> count; a state without messages is left out, here and in `deliveries`."""
    conflicts: int
    """Messages whose id came again with another body."""
    oldest_unanswered_s: float | None
    """Age of the oldest message without an outcome; None = there is none."""
    open_turns: int
    calls_in_flight: int
    closed_gates: tuple[ClosedGate, ...]
    dead_letters: Mapping[str, int]
    """Reason -> count, of those that nobody has resolved."""
    paused: Mapping[str, int]
    """Paused channel users by reason: `operator`, `loop`, `echo`."""
    deliveries: Mapping[str, int]
    """`kept`: the channel has no delivery, so the reply is in Postgres alone."""
    drafts: Mapping[str, int]
    """Agent -> replies that wait for a person."""
    oldest_draft_s: float | None
    """None = none waits."""
    opted_out: Mapping[str, int]
    """Source -> people whose newest entry in the ledger is an opt-out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ages:
    """Ages in seconds; None = nothing waits there."""

    inbox: int
    """Rows that no worker has accepted."""
    oldest_inbox_s: float | None
    oldest_undelivered_s: float | None
    """Of a reply, since it was written."""
    stalled_workers: int
    """Living processes that take nothing while entries wait."""


def oldest_s(waiting: Iterable[Waiting]) -> float | None:
    """Return the age of the oldest; None if nothing waits."""
    return max((one.age_s for one in waiting), default=None)


class StatusStore(LivingWorkers, RevisionStore):
    """Counts and ages; each method is one statement. `after`: only what has waited that long."""

    def unanswered(self, after: timedelta = timedelta()) -> tuple[Waiting, ...]:
        """Return the messages without an outcome, by agent and state."""
        return self._found(Waiting, _UNANSWERED, {"after": after})

    def undelivered(self, after: timedelta = timedelta()) -> tuple[Waiting, ...]:
        """Return the replies on their way, by channel and state."""
        return self._found(Waiting, _UNDELIVERED, {"after": after})

    def drafts(self) -> tuple[Waiting, ...]:
        """Return the replies that wait for a person, by agent."""
        return self._found(Waiting, _DRAFTS)

    def inbox(self, after: timedelta = timedelta()) -> Waiting | None:
        """Return the rows that no worker has accepted; None if there is none."""
        return next(iter(self._found(Waiting, _INBOX, {"after": after})), None)

    def stopped(self) -> Row:
        """Count the users who wait for an operator: `diverged`, or `erasing` and not finished."""
        return self._rows(_STOPPED)[0]

    def in_work(self) -> Row:
        """Count the work that has begun: open `turns`, and `calls` with a committed intent."""
        return self._rows(_IN_WORK)[0]

    def gates(self) -> Mapping[str, float]:
        """Return for how many seconds each gate is still closed; 0 = open, no call passed yet."""
        return {name: float(closed_s) for name, closed_s in self._rows(_GATES)}

    def closed_gates(self) -> tuple[ClosedGate, ...]:
        """Return the gates that are closed now."""
        return self._found(ClosedGate, CLOSED_GATES)

    def dead_letters(self) -> Mapping[str, int]:
        """Return how many dead letters are unresolved, by reason."""
        return self._counted(_DEAD_LETTERS)

    def opted_out(self) -> Mapping[str, int]:
        """Return how many people have opted out, by source."""
        return self._counted(_OPTED_OUT)

    def overview(self) -> Overview:
        """Count everything. Raises `PermanentError` if the tables do not exist."""
        work = self.in_work()
        messages, drafts = self._rows(_MESSAGES), self.drafts()
        return Overview(
            workers=self.workers(),
            messages={row.state: row.count for row in messages},
            conflicts=sum(row.conflicts for row in messages),
            oldest_unanswered_s=oldest_s(self.unanswered()),
            open_turns=work.turns,
            calls_in_flight=work.calls,
            closed_gates=self.closed_gates(),
            dead_letters=self.dead_letters(),
            paused=self._counted(_PAUSED),
            deliveries=self._counted(_DELIVERIES),
            drafts={one.name: one.count for one in drafts},
            oldest_draft_s=oldest_s(drafts),
            opted_out=self.opted_out(),
        )

    def ages(self, workers: Iterable[LivingWorker]) -> Ages:
        """Return how old the oldest inbox row and the oldest undelivered reply are."""
        inbox = self.inbox()
        return Ages(
            inbox=inbox.count if inbox else 0,
            oldest_inbox_s=inbox.age_s if inbox else None,
            oldest_undelivered_s=oldest_s(self.undelivered()),
            stalled_workers=sum(one.stalled_s > 0 for one in workers),
        )

    def _counted(self, question: Statement) -> Mapping[str, int]:
        return {str(name): int(count) for name, count in self._rows(question)}
