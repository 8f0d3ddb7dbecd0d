"""Reports the acceptance of messages: log line, counter and span of each step.

An `accept` span is the parent of the turn and of the deliveries that follow from its message.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import UUID

from message_worker_client.envelope.wire import INBOUND
from worker.domain.errors import RetryableError, WorkerError, named
from worker.domain.ids import ChannelUserId
from worker.domain.messages import Accepted, Held
from worker.domain.screening.consents import LedgerEntry
from worker.observability import metrics, traces
from worker.observability.logs import log


def accept_span(
    *, queue: str, parent: str | None, refused: str | None = None
) -> AbstractContextManager[None]:
    """Trace the acceptance of an envelope. `refused`: the reason of a dead letter."""
    return traces.span(
        "accept",
        lambda: {
            "messaging.system": "celery" if queue == INBOUND else "postgresql",
            "messaging.destination.name": queue,
            "messaging.operation.name": "accept",
            "messaging.operation.type": "process",
            "error.type": refused,
        },
        kind=traces.Kind.CONSUMER,
        parent=parent,
    )


def record_accepted(accepted: Accepted) -> None:
    """Report a committed message."""
    metrics.ACCEPTED.labels(accepted.result).inc()
    # A batch of the inbox is committed outside its spans; then this does nothing.
    traces.note(
        lambda: {
            "worker.message": accepted.id,
            "worker.user": accepted.user_id,
            "worker.result": accepted.result,
        }
    )
    if accepted.consent is not None:
        record_consent(accepted.consent, user_id=accepted.user_id)
    if accepted.fresh:
        log.info("message.accepted", message=accepted.id, user=accepted.user_id)
    elif accepted.conflicting:
        log.warning("message.conflict", message=accepted.id, user=accepted.user_id)
    else:
        log.info("message.repeated", message=accepted.id, user=accepted.user_id)


def record_consent(entry: LedgerEntry, *, user_id: ChannelUserId | None = None) -> None:
    """Report that a person has opted out or in. `user_id`: None = they have no such row yet."""
    state = "stopped" if entry.stopped else "started"
    metrics.CONSENTS.labels(entry.source, state).inc()
    log.info("consent.changed", user=user_id, state=state, source=entry.source)


def record_held(held: Held) -> None:
    """Report a message that waits for its `not_before`."""
    log.info("message.held", inbox=held.inbox_id)


def record_mail(mail: int | None, rule: str | None, *, task: UUID | None) -> None:
    """Report a mail. `mail`: None = it was known. `rule`: that of screening; None = none fits."""
    metrics.MAILS.labels("known" if mail is None else rule or "none").inc()
    log.info("mail.taken", mail=mail, rule=rule, task=task and str(task))


def record_event(kind: str) -> None:
    """Count one of Telnyx's messaging events. `kind`: one of a few fixed words."""
    metrics.EVENTS.labels(kind).inc()
    if kind == "spend_limit":
        log.error("telnyx.spend_limit_reached")


def record_refused(reason: str, *, detail: str, queue: str, traceparent: str | None = None) -> None:
    """Report a dead letter of an envelope, in a span. `detail` never has a value of it."""
    with accept_span(queue=queue, parent=traceparent, refused=reason):
        metrics.REFUSED.labels(reason).inc()
        log.warning("envelope.refused", reason=reason, detail=detail, queue=queue)


@contextmanager
def work_logged(user_id: ChannelUserId) -> Iterator[None]:
    """Log what fails: the work for the user stays due in Postgres, and a later look finds it."""
    try:
        yield
    except RetryableError as error:
        log.warning("work.deferred", user=user_id, error=str(error))
    except Exception as error:  # noqa: BLE001 - on a thread of a pool, nobody else would see it
        log.error("work.failed", user=user_id, error=named(error))


def record_look_failed(error: Exception) -> None:
    """Report a look that failed."""
    step = getattr(error, "step", "service")
    metrics.MAILBOX_FAILURES.labels(step).inc()
    # The text of other errors may quote a mail.
    text = str(error) if step != "service" or isinstance(error, WorkerError) else named(error)
    log.warning("mailbox.look_failed", error=text)
