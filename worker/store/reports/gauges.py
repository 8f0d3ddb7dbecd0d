"""What `worker metrics` asks Postgres at each scrape: counts and ages, never of whole tables.

What waits, runs or is undone has a partial index. What has ended is only looked at for a while
back: ids grow with time, so the first row of that while is found by halving the ids.
"""

from dataclasses import dataclass
from typing import Final

from worker.store.database import Database
from worker.store.sql import sql

SHORT_S: Final = 5.0
LONG_S: Final = 60.0
"""For so long an answer is good: two scrapers, or a short interval, do not double the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One gauge; its name is also a column of the statement that answers it."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A statement, and the gauges that its rows give."""

    part: str
    metrics: tuple[Metric, ...]
    sql: str
    good_for_s: float = SHORT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One value of one gauge."""

    metric: Metric
    labels: tuple[str, ...]
    value: float


def _first_since(table: str, column: str, since: str) -> str:
    """Give a CTE `first(id)`: of the first row with `column >= since`, found in some 30 steps."""
    return f"""
WITH RECURSIVE half AS (
    SELECT min(id) AS low, max(id) + 1 AS high FROM {table}
    UNION ALL
    SELECT CASE WHEN is_old THEN middle + 1 ELSE low END, CASE WHEN is_old THEN high ELSE middle END
    FROM half, LATERAL (SELECT (low + high) / 2 AS middle) AS m, LATERAL (SELECT coalesce((
        SELECT {column} < {since} FROM {table} WHERE id >= middle ORDER BY id LIMIT 1
    ), false) AS is_old) AS looked_at
    WHERE low < high
), first AS (SELECT low AS id FROM half WHERE low >= high)
"""


_HOUR = "service_now() - interval '1 hour'"
_TODAY = "date_trunc('day', service_now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"

QUESTIONS: Final = (
    Question(
        part="processes",
        metrics=(
            Metric(name="worker_processes_alive", help="Workers with a fresh heartbeat"),
            Metric(
                name="worker_processes_stalled",
                help="Of them, those that take nothing while entries wait",
            ),
        ),
        sql="""
SELECT count(*) AS worker_processes_alive, count(stalled_since) AS worker_processes_stalled
FROM workers WHERE alive_until >= service_now()
""",
    ),
    Question(
        part="unanswered",
        metrics=(
            Metric(
                name="worker_oldest_unanswered_seconds",
                help="Age of the oldest message without an outcome; who is stopped does not count",
            ),
            Metric(
                name="worker_messages_unanswered",
                help="Messages without an outcome: pending, or in a turn",
                labels=("state",),
            ),
            Metric(name="worker_diverged_users", help="Users who wait for an operator"),
            Metric(
                name="worker_erasures_unfinished",
                help="Users whose erasing was begun; `worker erase` has to be run again",
            ),
        ),
        # A diverged user keeps his open turn, and of open turns there is an index. Who is being
        # erased may have none.
        sql="""
WITH erasing AS MATERIALIZED (
    SELECT channel_user_id FROM erasures WHERE finished_at IS NULL
), opened AS MATERIALIZED (
    SELECT t.id, t.channel_user_id, u.diverged_at IS NOT NULL AS stopped
    FROM turns t, LATERAL (
        SELECT diverged_at FROM channel_users WHERE id = t.channel_user_id OFFSET 0) AS u
    WHERE t.state = 'open'
), stopped AS MATERIALIZED (
    SELECT channel_user_id FROM opened WHERE stopped UNION SELECT channel_user_id FROM erasing
), unanswered AS (
    SELECT 'pending' AS state, m.accepted_at, m.channel_user_id IN (
        SELECT channel_user_id FROM stopped) AS stopped
    FROM messages m WHERE m.state = 'pending'
    UNION ALL
    SELECT 'in_turn', m.accepted_at, o.stopped
    FROM opened o, LATERAL (SELECT accepted_at FROM messages
        WHERE turn_id = o.id AND state = 'in_turn' OFFSET 0) AS m
)
SELECT state, count(unanswered.accepted_at) AS worker_messages_unanswered,
    extract(epoch FROM service_now() - (
        SELECT min(accepted_at) FROM unanswered WHERE NOT stopped))
        AS worker_oldest_unanswered_seconds,
    (SELECT count(*) FROM opened WHERE stopped
        AND channel_user_id NOT IN (SELECT channel_user_id FROM erasing)) AS worker_diverged_users,
    (SELECT count(*) FROM erasing) AS worker_erasures_unfinished
FROM (VALUES ('pending'), ('in_turn')) AS states (state) LEFT JOIN unanswered USING (state)
GROUP BY state
""",
    ),
    Question(
        part="calls",
        metrics=(
            Metric(name="worker_turns_open", help="Turns that were begun and have not ended"),
            Metric(name="worker_calls_in_flight", help="Calls to Telnyx with a committed intent"),
        ),
        sql="""
SELECT (SELECT count(*) FROM turns WHERE state = 'open') AS worker_turns_open,
    (SELECT count(*) FROM calls WHERE state = 'intended') AS worker_calls_in_flight
""",
    ),
    Question(
        part="gates",
        metrics=(
            Metric(name="worker_gates_closed", help="Gates that hold workers back"),
            Metric(
                name="worker_gate_closed_seconds",
                help="For how much longer a gate is closed; 0 = open, not yet passed",
                labels=("gate",),
            ),
        ),
        sql="""
SELECT name AS gate, greatest(extract(epoch FROM closed_until - service_now()), 0)
        AS worker_gate_closed_seconds,
    (SELECT count(*) FROM gates WHERE closed_until > service_now()) AS worker_gates_closed
FROM (SELECT) AS one LEFT JOIN gates ON true
""",
    ),
    Question(
        part="deliveries",
        metrics=(
            Metric(
                name="worker_deliveries_undone",
                help="Replies on their way, pending or sending",
                labels=("state",),
            ),
            Metric(
                name="worker_oldest_undelivered_seconds",
                help="Age of the oldest of them; 0 = none",
            ),
        ),
        sql="""
WITH undone AS (
    SELECT state, created_at FROM deliveries WHERE state IN ('pending', 'sending')
)
SELECT state, count(undone.created_at) AS worker_deliveries_undone,
    extract(epoch FROM service_now() - (SELECT min(created_at) FROM undone))
        AS worker_oldest_undelivered_seconds
FROM (VALUES ('pending'), ('sending')) AS states (state) LEFT JOIN undone USING (state)
GROUP BY state
""",
    ),
    Question(
        part="dead_letters",
        metrics=(
            Metric(name="worker_dead_letters_open", help="Dead letters that nobody has resolved"),
            Metric(name="worker_dead_letters", help="The same, by reason", labels=("reason",)),
        ),
        sql="""
SELECT reason, count(*) AS worker_dead_letters,
    (SELECT count(*) FROM dead_letters WHERE resolution IS NULL) AS worker_dead_letters_open
FROM (SELECT) AS one LEFT JOIN dead_letters ON resolution IS NULL GROUP BY reason
""",
    ),
    Question(
        part="inbox",
        metrics=(
            Metric(name="worker_inbox_messages", help="Envelopes of SQL producers not taken yet"),
            Metric(name="worker_oldest_inbox_seconds", help="Age of the oldest of them; 0 = none"),
        ),
        sql="""
SELECT (SELECT count(*) FROM inbox) AS worker_inbox_messages, extract(epoch FROM service_now()
    - (SELECT created_at FROM inbox ORDER BY id LIMIT 1)) AS worker_oldest_inbox_seconds
""",
    ),
    Question(
        part="messages",
        good_for_s=LONG_S,
        metrics=(
            Metric(
                name="worker_messages_last_hour",
                help="Messages accepted within the last hour, by state and outcome",
                labels=("state", "outcome"),
            ),
        ),
        sql=_first_since("messages", "accepted_at", _HOUR)
        + f"""
SELECT state, coalesce(outcome, 'none') AS outcome, count(*) AS worker_messages_last_hour
FROM messages WHERE id >= (SELECT id FROM first) AND accepted_at >= {_HOUR} GROUP BY 1, 2
""",
    ),
    Question(
        part="replies",
        good_for_s=LONG_S,
        metrics=(
            Metric(
                name="worker_deliveries_last_hour",
                help="Replies made within the last hour, by what became of them",
                labels=("state",),
            ),
        ),
        sql=_first_since("deliveries", "created_at", _HOUR)
        + f"""
SELECT state, count(*) AS worker_deliveries_last_hour
FROM deliveries WHERE id >= (SELECT id FROM first) AND created_at >= {_HOUR} GROUP BY 1
""",
    ),
    Question(
        part="tokens",
        good_for_s=LONG_S,
        metrics=(
            Metric(
                name="worker_tokens_today",
                help="Tokens of the calls begun since midnight UTC",
                labels=("agent", "direction"),
            ),
        ),
        # OFFSET 0: one look by key for each of today's calls, instead of all turns there are.
        sql=_first_since("calls", "intent_at", _TODAY)
        + f"""
SELECT agent, direction, sum(tokens) AS worker_tokens_today
FROM calls c, LATERAL (SELECT agent FROM turns WHERE id = c.turn_id OFFSET 0) AS t,
    LATERAL (VALUES ('input', c.input_tokens), ('output', c.output_tokens)) AS d (direction, tokens)
WHERE c.id >= (SELECT id FROM first) AND c.intent_at >= {_TODAY} GROUP BY 1, 2
""",
    ),
)

BOUND: Final = sql("""
SELECT set_config(name, value, true) FROM (VALUES
    ('statement_timeout', '2s'), ('lock_timeout', '1s'), ('enable_seqscan', 'off'), ('jit', 'off'),
    ('max_parallel_workers_per_gather', '0')) AS bound (name, value)
""")
"""How much lies behind a halved id is unknown to the planner: it would read all there is."""


class GaugeStore:
    """Answers the questions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def answer(self, question: Question) -> tuple[Reading, ...]:
        """Ask within two seconds. Raises `DatabaseAwayError`, also where that was too short."""
        with self._database.transaction() as connection:
            connection.execute(BOUND)
            rows = connection.execute(sql(question.sql)).fetchall()
        return tuple(
            dict.fromkeys(
                Reading(
                    metric=metric,
                    labels=tuple(str(getattr(row, label)) for label in metric.labels),
                    value=float(getattr(row, metric.name) or 0),
                )
                for row in rows
                for metric in question.metrics
                if all(getattr(row, label) is not None for label in metric.labels)
            )
        )
