"""What happened in a schedule, counted: a campaign in which it never did has proved nothing."""

from tests.faults.state_machine.stage import CALL_TIMEOUT_S, Stage
from worker.domain.timing import Timing
from worker.sandbox.simulator.record.events import FaultChosen, MessageStored

SOMETIMES = (
    "adoption",
    "stale lease refused",
    "fallback",
    "look again",
    "resend after quiet",
    "takeover after lapse",
    "conversation replaced",
    "diverged",
    "crash",
    "send deadline kept",
    "recorded for a person",
    "dead letter",
    "split",
    "withheld",
    "superseded",
    "gate closed",
    "gave up",
    "executed after we left",
)

_COUNTS = """
SELECT
  (SELECT count(*) FROM replies WHERE source = 'adopted') AS "adoption",
  (SELECT count(*) FROM replies WHERE source = 'fallback') AS "fallback",
  (SELECT count(*) FROM calls a JOIN calls b ON b.turn_id = a.turn_id AND b.id > a.id
     AND b.conversation_id = a.conversation_id
   WHERE a.state = 'unknown' AND b.intent_at - a.intent_at >= make_interval(secs => %s)
  ) AS "resend after quiet",
  (SELECT count(*) FROM calls WHERE reason = 'its worker died') AS "takeover after lapse",
  (SELECT count(*) FROM attempt_log WHERE event = 'conversation.replaced')
    AS "conversation replaced",
  (SELECT count(*) FROM channel_users WHERE diverged_at IS NOT NULL) AS "diverged",
  (SELECT count(*) FROM calls WHERE reason = 'send deadline passed') AS "send deadline kept",
  (SELECT count(*) FROM turns WHERE kind = 'human' AND landed) AS "recorded for a person",
  (SELECT count(*) FROM dead_letters) AS "dead letter",
  (SELECT count(*) FROM turns WHERE failure = 'split') AS "split",
  (SELECT count(*) FROM deliveries WHERE state = 'withheld') AS "withheld",
  (SELECT count(*) FROM deliveries WHERE state = 'superseded') AS "superseded",
  (SELECT count(*) FROM messages WHERE late) AS "late message",
  (SELECT count(*) FROM turns WHERE failure = 'gave_up') AS "gave up"
"""


def tell(stage: Stage) -> None:
    """Add what the tables of a schedule show to the campaign's counters."""
    quiet_s = Timing().quiet_s(CALL_TIMEOUT_S)
    (row,) = stage.database.rows(_COUNTS, quiet_s)
    stage.counts["schedules"] += 1
    for name, count in row.items():
        stage.counts[name] += count
    late = {
        entry.event.request
        for entry in stage.telnyx.log()
        if isinstance(entry.event, FaultChosen)
        and entry.event.name in {"stored_late", "late_execution"}
    }
    stage.counts["executed after we left"] += len(
        {
            entry.event.request
            for entry in stage.telnyx.log()
            if isinstance(entry.event, MessageStored) and entry.event.request in late
        }
    )
