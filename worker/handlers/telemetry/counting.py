"""What claims and calls are in the words of the meters, which know no types of ours."""

from http import HTTPStatus

from worker.domain.turns.calls import CallOutcome, Done, NotSent, Refused, Unknown
from worker.domain.turns.claim import Claimed
from worker.domain.turns.next_step import Prepare, Record, Send
from worker.observability.metrics import Meters


def count_claim(meters: Meters, claimed: Claimed) -> None:
    """Note how long the messages of a new turn have waited; nothing for one that goes on."""
    if not isinstance(claimed.step, Send | Prepare | Record):
        return
    accepted = [one.accepted_at for one in claimed.step.batch if one.accepted_at is not None]
    if accepted:
        meters.waited((claimed.now - min(accepted)).total_seconds())


def count_post(meters: Meters, claimed: Claimed, outcome: CallOutcome, *, seconds: float) -> None:
    """Count one POST, its time, and what it used."""
    agent = claimed.agent.name
    meters.posted(agent, type(outcome).__name__, status=_status_of(outcome), seconds=seconds)
    if claimed.committed_intent.attempt > 0:
        meters.repeated(agent)
    if isinstance(outcome, Done):
        usage = outcome.usage
        meters.used(agent, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)


def _status_of(outcome: CallOutcome) -> int | None:
    match outcome:
        case Done():
            return int(HTTPStatus.OK)
        case Refused() | Unknown():
            return outcome.status
        case NotSent():
            return None
