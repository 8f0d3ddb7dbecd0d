"""The error tree. Its one question: may a later attempt succeed?

The tree:
    WorkerError
    ├── RetryableError          yes, after `retry_after_s` (None = the caller's own backoff)
    │   └── OperatorError       yes, once a person has mended key, account or model
    ├── PermanentError          no: the same attempt gives the same answer
    │   └── NotFoundError       ... because the thing is gone on the other side
    └── OutcomeUnknownError     the call may have happened: look before doing it again
"""


class WorkerError(Exception):
    """Root of everything raised on purpose. `str()` never holds a text, an address or a key."""


class RetryableError(WorkerError):
    """A later attempt may succeed; nothing happened on the other side."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """Seconds the other side asked us to wait; None when it did not say."""


class OperatorError(RetryableError):
    """The key, the account or the model is at fault, never the customer's message."""


class PermanentError(WorkerError):
    """The same attempt will fail the same way."""


class NotFoundError(PermanentError):
    """The thing named in the request does not exist (any more)."""


class OutcomeUnknownError(WorkerError):
    """The request may have been carried out although no usable answer came back."""
