"""The error tree; its one question is whether a later attempt may succeed.

The tree:
    WorkerError
    ├── RetryableError          yes, after `retry_after_s` (None = the caller's own backoff)
    │   ├── OperatorError       yes, once a person has mended key, account or model
    │   └── DatabaseAwayError   yes, once Postgres is back; a commit may have happened
    ├── PermanentError          no: the same attempt gives the same answer
    │   ├── NotFoundError       ... because the thing is gone on the other side
    │   └── ConflictError       ... because it was done already, in another way
    ├── OutcomeUnknownError     the call may have happened: look before doing it again
    └── StaleLeaseError         somebody else goes on with it: write nothing, leave
"""


class WorkerError(Exception):
    """Root of everything raised on purpose. `str()` never holds a text, an address or a key."""

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status of the answer that led here; None when there was no answer."""
        self.code = code
        """The other side's error code, a short slug; None when it gave none."""
        self.request_id = request_id


class RetryableError(WorkerError):
    """A later attempt may succeed; nothing happened on the other side."""

    def __init__(
        self,
        message: str = "",
        *,
        retry_after_s: float | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, status=status, code=code, request_id=request_id)
        self.retry_after_s = retry_after_s
        """Seconds the other side asked us to wait; None when it did not say."""


class OperatorError(RetryableError):
    """The key, the account or the model is at fault, never the customer's message."""


class DatabaseAwayError(RetryableError):
    """Postgres is away. Where it went during a commit, write nothing more: the next claim reads."""


class PermanentError(WorkerError):
    """The same attempt will fail the same way."""


class NotFoundError(PermanentError):
    """The thing named in the request does not exist (any more)."""


class ConflictError(PermanentError):
    """The idempotency key belongs to another body; what that request made can be found."""


class OutcomeUnknownError(WorkerError):
    """The request may have been carried out although no usable answer came back."""


class StaleLeaseError(WorkerError):
    """The fencing token no longer fits: another worker has taken over."""
