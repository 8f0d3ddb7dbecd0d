"""Where an answer, or the lack of one, becomes an error of the tree (responses aside)."""

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
from worker.telnyx.answers.answer import (
    ACCOUNT_CODES,
    TIMEOUT_CODE,
    Answer,
    read_object,
    telnyx_code,
)

_REQUEST = 4
_NO_VERDICT = frozenset({404, 408, 410})
"""A timeout of theirs; and what is gone only in a proxy's words (HTML) may be there."""


def of_silence(what: str, reason: str, *, may_have_happened: bool) -> WorkerError:
    """Return the error of an exchange without a complete answer."""
    if may_have_happened:
        return OutcomeUnknownError(f"{what}: {reason}")
    return RetryableError(f"{what}: {reason}")


def of_answer(what: str, answer: Answer, *, writes: bool, now: datetime) -> WorkerError:
    """Return the error of a complete answer that is not 2xx."""
    document = read_object(answer.body)
    code, status = telnyx_code(document), answer.status
    message = f"{what}: status {status}" + (f", code {code}" if code else "")
    facts = {"code": code, "request_id": answer.request_id}
    kind = _kind(answer, code, document)
    if kind is None:
        kind = OutcomeUnknownError if writes else RetryableError
    if issubclass(kind, RetryableError):
        wait_s = answer.retry_after_s(now)
        return kind(message, retry_after_s=wait_s, status=status, **facts)
    return kind(message, status=status, **facts)


def _kind(
    answer: Answer, code: str | None, document: dict[str, object] | None
) -> type[WorkerError] | None:
    """Say which error it is; None: no verdict, so all depends on whether it was to write."""
    match answer.status // 100, answer.status:
        case _ if code == TIMEOUT_CODE:
            return None
        case (3, _) | (_, 401 | 402 | 403):
            return OperatorError
        case 4 | 5, _ if code in ACCOUNT_CODES:
            return OperatorError
        case _, 409 | 429:
            return RetryableError
        case _, 404 | 410 if not answer.is_html:
            return NotFoundError
        case _, 422 if not _is_validation(document):
            return ConflictError
        case hundred, status:
            return PermanentError if hundred == _REQUEST and status not in _NO_VERDICT else None


def _is_validation(document: dict[str, object] | None) -> bool:
    """Tell FastAPI's 422 (`detail` is a list) from an idempotency key's (Telnyx: "Idempotency")."""
    return document is not None and isinstance(document.get("detail"), list)
