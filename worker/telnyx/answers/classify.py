"""Judges an answer of the Responses endpoint: pure, and it raises on nothing.

    2xx   a response object that is over                     -> Done
          anything else                                      -> Unknown
    408, 409, 504, code 10008 (a timeout on their side)      -> Unknown
    401, 402, 403 but not in another's words, 3xx, codes     -> Refused, ACCOUNT
    429                                                      -> Refused, RATE
    other 4xx                                                -> Refused, REQUEST
    5xx   in Telnyx's own words (JSON)                       -> Refused, SERVER
          in a proxy's, or without a body                    -> Unknown

The first line that fits decides.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from http import HTTPStatus

from worker.domain.errors import (
    ConflictError,
    NotFoundError,
    OperatorError,
    OutcomeUnknownError,
    PermanentError,
    RetryableError,
    WorkerError,
)
from worker.domain.turns.calls import CallOutcome, Done, Fault, Refused, ToolCall, Unknown
from worker.domain.turns.visible_text import visible_text
from worker.net.answer import Answer
from worker.telnyx.answers.answer import (
    ACCOUNT_CODES,
    TIMEOUT_CODE,
    is_telnyx_error,
    pause_s,
    read_object,
    request_id,
    slug,
    telnyx_code,
    tool_call,
)

# Tuples, because the value may be a list: `in` on a set would raise TypeError for it.
_NOT_OVER = ("queued", "in_progress")
_TEXT_PARTS = ("output_text", "text")
_MAX_TOKENS = 2**31 - 1


def classify(answer: Answer, *, now: datetime) -> CallOutcome:
    """Judge one complete answer. `now` serves a dated Retry-After."""
    status, document = answer.status, read_object(answer.body)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return judge_response(answer, document or {})
    fault = fault_of(answer, document)
    if fault is None:
        return Unknown(reason=f"status {status}", status=status, request_id=request_id(answer))
    return Refused(
        status=status,
        fault=fault,
        code=telnyx_code(document),
        retry_after_s=pause_s(answer, now),
        request_id=request_id(answer),
    )


def fault_of(answer: Answer, document: Mapping[str, object] | None) -> Fault | None:
    """Return who has to act after an answer that is not 2xx; None: it is no verdict.

    The one status table of Telnyx's API: `errors` maps it for the other endpoints.
    """
    code, status = telnyx_code(document), answer.status
    match status // 100, status:
        case _, 408 | 409 | 504:
            return None
        case _ if code == TIMEOUT_CODE:
            return None
        case (3, _):
            return Fault.ACCOUNT
        # A page or another's JSON: something in front of Telnyx, which knows nothing of accounts.
        case _, 401 | 402 | 403 if is_telnyx_error(document) or not answer.body.strip():
            return Fault.ACCOUNT
        case 4 | 5, _ if code in ACCOUNT_CODES:
            return Fault.ACCOUNT
        case _, 429:
            return Fault.RATE
        case 4, _:
            return Fault.REQUEST
        case 5, _ if is_telnyx_error(document):
            return Fault.SERVER
        case _:
            return None


def judge_response(answer: Answer, document: dict[str, object]) -> Done | Unknown:
    """Judge the response object of a 2xx; status and headers of `answer` serve as evidence."""
    if isinstance(wrapped := document.get("data"), dict):
        document = wrapped
    if (reason := _why_no_verdict(document)) is not None:
        return Unknown(reason=reason, status=answer.status, request_id=request_id(answer))
    output = tuple(item for item in list_of(document.get("output")) if isinstance(item, dict))
    return Done(
        status=_status(document),
        text="\n".join(filter(None, (_message_text(item) for item in output))),
        tool_calls=tuple(_tool_calls(output)),
        response_id=slug(document.get("id")),
        request_id=request_id(answer),
        incomplete_reason=_incomplete_reason(document),
        output=output,
        input_tokens=_tokens(document, "input_tokens"),
        output_tokens=_tokens(document, "output_tokens"),
    )


def _why_no_verdict(document: Mapping[str, object]) -> str | None:
    if not isinstance(document.get("output"), list) and not isinstance(document.get("status"), str):
        return "2xx without a readable response object"
    if document.get("status") in _NOT_OVER:
        return "2xx before the response was over"
    return None


def _status(document: Mapping[str, object]) -> str:
    status = document.get("status")
    if isinstance(status, str):
        return status
    return "failed" if document.get("error") else "completed"


def _message_text(item: Mapping[str, object]) -> str:
    """Return the visible text of an assistant's message; a bare string as content is text."""
    if item.get("type", "message") != "message" or item.get("role", "assistant") != "assistant":
        return ""
    content = item.get("content")
    if isinstance(content, str):
        return visible_text(content)
    parts = (part for part in list_of(content) if isinstance(part, dict))
    texts = (part.get("text") for part in parts if part.get("type") in _TEXT_PARTS)
    return visible_text("".join(text for text in texts if isinstance(text, str)))


def _tool_calls(output: tuple[dict[str, object], ...]) -> Iterator[ToolCall]:
    for item in output:
        if item.get("type") == "function_call":
            call_id = item.get("call_id") or item.get("id")
            yield tool_call(call_id, item.get("name"), item.get("arguments"))


def _incomplete_reason(document: Mapping[str, object]) -> str | None:
    details = document.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    return reason if isinstance(reason, str) else None


def _tokens(document: Mapping[str, object], name: str) -> int:
    usage = document.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    # JSON's `true` is an int in Python.
    if not isinstance(count, int) or isinstance(count, bool):
        return 0
    return min(max(count, 0), _MAX_TOKENS)


def list_of(value: object) -> list[object]:
    """Return the value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def error_of_answer(what: str, answer: Answer, *, writes: bool, now: datetime) -> WorkerError:
    """Return the error of a complete answer that is not 2xx."""
    document = read_object(answer.body)
    code, status = telnyx_code(document), answer.status
    kind = _kind(answer, document) or (OutcomeUnknownError if writes else RetryableError)
    message = f"{what}: status {status}" + (f", code {code}" if code else "")
    return kind(
        message,
        code=code,
        retry_after_s=pause_s(answer, now) if issubclass(kind, RetryableError) else None,
    )


def _kind(answer: Answer, document: dict[str, object] | None) -> type[WorkerError] | None:
    """Return which error it is; None: no verdict, so all depends on whether the call writes."""
    match fault_of(answer, document), answer.status:
        case Fault.ACCOUNT, _:
            return OperatorError
        case (Fault.RATE, _) | (_, 409):
            # 409 has a verdict here: these calls have idempotency keys, the first one still runs.
            return RetryableError
        case Fault.REQUEST, 404 | 410:
            # A proxy that lost its way answers 404 in HTML: the conversation may well be there.
            return None if answer.body.lstrip()[:1] == b"<" else NotFoundError
        # The 422 of an idempotency key (Telnyx: "Idempotency"); FastAPI's has a list as `detail`.
        case Fault.REQUEST, 422 if not isinstance((document or {}).get("detail"), list):
            return ConflictError
        case Fault.REQUEST, _:
            return PermanentError
        case _:
            return None
