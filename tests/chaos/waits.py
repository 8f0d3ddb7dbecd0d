"""Nobody waits for what happens to others: the poisoned, the hostile, and senders of bulk.

Looked at are the messages that nothing befell themselves: the turn had one call a round, which was
answered, the worker that made it did not sleep meanwhile, and no earlier turn of the person was
open. Excused is the time in which a part that all depend on was ill, and that of a gate which an
outage or a rate limit had closed. The rest may be the time of a worker that died, and of one
answer.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.chaos.pair import Jump, true_time
from tests.chaos.parts import Looker
from tests.chaos.schedule import Kind
from tests.support.oracle import Violation

AT_MOST_S: Final = 6.0
"""A minute, divided as all waits are. Two seconds were measured."""
AFTER_S: Final = 2.0
"""For how long all feel a fault when it is over: connections are made again."""
HOLD_ALL: Final = frozenset(
    {
        *(Kind.KILL_POSTGRES, Kind.RESET_POSTGRES, Kind.REFUSE_POSTGRES, Kind.HOLD_ROWS),
        *(Kind.DROP_POSTGRES_ANSWERS, Kind.LOSE_COMMITS, Kind.TERMINATE_BACKENDS),
        *(Kind.READ_ONLY_POSTGRES, Kind.FAIL_OVER),
        *(Kind.KILL_TELNYX, Kind.WRONG_KEY, Kind.WITHDRAW_MODEL, Kind.FLUSH_REDIS),
    }
)
"""Not among them: refused threads. They must hold nobody but their people."""
_UNTOUCHED: Final = """
SELECT m.message_id, extract(epoch FROM m.accepted_at)::float AS began,
    extract(epoch FROM t.finished_at)::float AS ended,
    ARRAY(SELECT w.pid FROM calls c JOIN workers w ON w.id = c.worker_id
        WHERE c.turn_id = t.id) AS pids
FROM messages m JOIN turns t ON t.id = m.turn_id
WHERE t.state = 'answered'
    AND NOT EXISTS (SELECT FROM calls c WHERE c.turn_id = t.id
        AND (c.state <> 'done' OR c.attempt > 0))
    AND NOT EXISTS (SELECT FROM turns e WHERE e.channel_user_id = t.channel_user_id
        AND e.id < t.id AND e.finished_at > m.accepted_at)
"""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A time, in seconds since 1970."""

    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Wait:
    """From the acceptance of a message to its answer."""

    message_id: str
    span: Span


def untouched(
    looker: Looker, jumps: Sequence[Jump], freezes: Sequence[tuple[int, Span]]
) -> list[Wait]:
    """Read the waits of those messages that nothing befell, in true time.

    `freezes`: process ids of workers that slept, and when.
    """
    found = []
    for row in looker.rows(_UNTOUCHED):
        span = Span(true_time(jumps, row["began"]), true_time(jumps, row["ended"]))
        slept = (
            pid in row["pids"] and one.began < span.ended and span.began < one.ended
            for pid, one in freezes
        )
        if not any(slept):
            found.append(Wait(row["message_id"], span))
    return found


def unexplained_s(wait: Span, excused: Iterable[Span]) -> float:
    """Return how much of a wait is in none of the spans."""
    left, at = 0.0, wait.began
    for one in sorted(excused):
        if one.began > at:
            left += max(min(one.began, wait.ended) - at, 0.0)
        at = max(at, one.ended)
    return left + max(wait.ended - at, 0.0)


def check_waits(waits: Sequence[Wait], excused: Sequence[Span]) -> Iterator[Violation]:
    """Find messages that waited for nothing."""
    for one in waits:
        waited_s = unexplained_s(one.span, excused)
        if waited_s > AT_MOST_S:
            yield Violation("waits", f"{one.message_id} waited {waited_s:.0f} s for nothing")
