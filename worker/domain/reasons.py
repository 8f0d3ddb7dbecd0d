"""Reasons of dead letters: the slugs of `dead_letters.reason`.

A slug is a contract with operators: new ones may be added, none changes its meaning. No slug
reveals anything about the message's content.
"""

from enum import StrEnum, unique


@unique
class DeadLetterReason(StrEnum):
    """Faults of the queue entry, of its body, of the envelope; then reasons of later steps."""

    NOT_JSON = "not_json"
    """The entry is not UTF-8, or not JSON as RFC 8259 defines it: NaN is not JSON."""
    NOT_AN_OBJECT = "not_an_object"
    NO_PROPERTIES = "no_properties"
    """`properties`, its `delivery_tag` or its `delivery_info` is missing: not Celery's format."""
    BAD_HEADERS = "bad_headers"
    """No headers, or no `task` or `id` in them."""
    PROTOCOL_1 = "protocol_1"
    """A message of Celery 3: the task's name is in the body."""
    CONTENT_TYPE = "content_type"
    """Anything but JSON in UTF-8. It was not decoded: a pickle runs code when it is."""
    COMPRESSED = "compressed"
    """It was not unpacked: a kilobyte may expand to a gigabyte."""
    TOO_LARGE = "too_large"

    BODY_ENCODING = "body_encoding"
    """The body is not a string, its base64 is broken, or its content is not UTF-8."""
    BODY_NOT_JSON = "body_not_json"
    TOO_DEEP = "too_deep"
    """Nested deeper than any envelope."""
    BODY_NOT_TRIPLE = "body_not_triple"
    """Not Celery's `[args, kwargs, embed]`."""
    BAD_ARGUMENTS = "bad_arguments"
    """Missing, extra or misnamed arguments for the task."""
    UNKNOWN_TASK = "unknown_task"
    WRONG_QUEUE = "wrong_queue"
    """A task of ours, but not one of this queue."""
    NOT_STORABLE = "not_storable"
    """A NUL or half of a surrogate pair, which Postgres cannot store."""

    UNACKED_UNREADABLE = "unacked_unreadable"
    """A note in Redis's hash `unacked` that cannot be turned back into a message."""
    NOT_UNDERSTOOD = "not_understood"
    """Celery refused it after our checks, or a check itself failed: a defect of ours."""
    TASK_FAILED = "task_failed"
    """The task, or taking a mail, raised an unexpected exception: a defect of ours."""

    ENVELOPE_INVALID = "envelope_invalid"
    ENVELOPE_VERSION = "envelope_version"
    UNKNOWN_AGENT = "unknown_agent"
    UNKNOWN_ROUTE = "unknown_route"

    NO_ANSWER = "no_answer"
    """The model's answer has no usable text, and the agent has no fallback text."""
    REFUSED = "refused"
    """Telnyx refused the request (400, 413, 422)."""
    DELIVERY_REJECTED = "delivery_rejected"
    """The channel refused the reply for good."""
    GAVE_UP = "gave_up"
    """Too many calls of unknown outcome, or too long since the first; no fallback text."""
