"""The error tree, by whether a later attempt may succeed.

The tree:
    WorkerError
    ├── RetryableError          yes, after `retry_after_s` (None = the caller's own backoff)
    │   ├── OperatorError       yes, once an operator has fixed key, account or model
    │   ├── DatabaseAwayError   yes, once Postgres is back; a commit may have happened
    │   └── BrokerAwayError     yes, once the broker is back; a publish may have happened
    ├── PermanentError          no: the same attempt gets the same answer
    │   ├── SettingsError       ... until a setting or the agents file is changed
    │   ├── NotFoundError       ... because the object is gone on the other side
    │   └── ConflictError       ... because it was done before, with another body
    ├── OutcomeUnknownError     the call may have happened: check before repeating it
    └── StaleLeaseError         another worker continues: write nothing, stop
"""

from typing import Final

SCHEMA_BEHIND: Final = "schema_behind"
"""The `code` if the database lacks migrations."""


class WorkerError(Exception):
    """Root of all errors that we raise. `str()` never holds a text, an address or a key."""

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        """The other side's error code, a short slug; None = it sent none."""
        self.retry_after_s = retry_after_s
        """Seconds that the other side asked us to wait; None = it did not ask."""


def named(error: BaseException) -> str:
    """Return an error's type and its code (Telnyx's, or an SQLSTATE), for a log line: no text."""
    code = getattr(error, "sqlstate", None) or getattr(error, "code", None)
    kind = type(error).__name__
    return f"{kind} {code}" if isinstance(code, str) and code else kind


class RetryableError(WorkerError):
    """A later attempt may succeed; nothing happened on the other side."""

    fix: str | None = None
    """What an operator can do; None = see whether the other side runs."""


class OperatorError(RetryableError):
    """The API key, the account or the model is at fault, never the customer's message."""


class DatabaseAwayError(RetryableError):
    """Postgres is away. After a failed commit write nothing: the next claim reads the truth."""

    setting = "DATABASE_URL"
    """The variable with its address."""


class BrokerAwayError(RetryableError):
    """The broker is away, or did not confirm a message: it may have it all the same."""


class PermanentError(WorkerError):
    """The same attempt will fail the same way."""


class SettingsError(PermanentError):
    """A setting is missing or wrong; `str()` is one line that names it and the fix."""


class NotFoundError(PermanentError):
    """The object named in the request does not exist, or no longer."""


class ConflictError(PermanentError):
    """The idempotency key belongs to another body; the result of that request can be looked up."""


class OutcomeUnknownError(WorkerError):
    """The request may have been carried out although no usable answer came back."""


class StaleLeaseError(WorkerError):
    """The fencing token is outdated: another worker has taken over."""
