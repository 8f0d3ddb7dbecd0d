"""Turns an answer, or the lack of one, into an error of the tree (for all calls but responses)."""

from datetime import datetime

from worker.domain.errors import (
    ConflictError,
    NotFoundError,
    OperatorError,
    OutcomeUnknownError,
    PermanentError,
    RetryableError,
    WorkerError,
)
from worker.domain.turns.calls import Fault
from worker.net.answer import Answer
from worker.telnyx.answers.answer import pause_s, read_object, request_id, telnyx_code
from worker.telnyx.answers.classify import fault_of


def error_without_answer(what: str, reason: str, *, may_have_happened: bool) -> WorkerError:
    """Return the error of an exchange without a complete answer."""
    kind = OutcomeUnknownError if may_have_happened else RetryableError
    return kind(f"{what}: {reason}")


def error_of_answer(what: str, answer: Answer, *, writes: bool, now: datetime) -> WorkerError:
    """Return the error of a complete answer that is not 2xx."""
    document = read_object(answer.body)
    code, status = telnyx_code(document), answer.status
    message = f"{what}: status {status}" + (f", code {code}" if code else "")
    facts = {"code": code, "request_id": request_id(answer)}
    kind = _kind(answer, document)
    if kind is None:
        kind = OutcomeUnknownError if writes else RetryableError
    if issubclass(kind, RetryableError):
        return kind(message, retry_after_s=pause_s(answer, now), status=status, **facts)
    return kind(message, status=status, **facts)


def _kind(answer: Answer, document: dict[str, object] | None) -> type[WorkerError] | None:
    """Return which error it is; None: no verdict, so all depends on whether the call writes."""
    match fault_of(answer.status, document), answer.status:
        case Fault.ACCOUNT, _:
            return OperatorError
        case (Fault.RATE, _) | (_, 409):
            # 409 has a verdict here: these calls have idempotency keys, the first one still runs.
            return RetryableError
        case Fault.REQUEST, 404 | 410:
            # A proxy that lost its way answers 404 in HTML: the conversation may well be there.
            return None if answer.body.lstrip()[:1] == b"<" else NotFoundError
        case Fault.REQUEST, 422 if not _is_validation(document):
            return ConflictError
        case Fault.REQUEST, _:
            return PermanentError
        case _:
            return None


def _is_validation(document: dict[str, object] | None) -> bool:
    """Tell FastAPI's 422 (`detail` is a list) from an idempotency key's (Telnyx: "Idempotency")."""
    return document is not None and isinstance(document.get("detail"), list)
