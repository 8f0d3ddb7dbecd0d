"""Why a message became a dead letter: the slugs of `dead_letters.reason`.

A slug is a contract with operators: new ones may come, none changes its meaning. No slug says
anything about what was in the message.
"""

from enum import StrEnum, unique


@unique
class DeadLetterReason(StrEnum):
    """What is wrong with the Redis entry; with the body in it; with the envelope in that."""

    NOT_JSON = "not_json"
    """The entry is not UTF-8 or not JSON as RFC 8259 has it: NaN is none, half of one is none."""
    NOT_AN_OBJECT = "not_an_object"
    NO_PROPERTIES = "no_properties"
    """`properties` or its `delivery_tag` or `delivery_info` is missing: not Celery's format."""
    BAD_HEADERS = "bad_headers"
    """No headers, or no `task` or `id` in them."""
    PROTOCOL_1 = "protocol_1"
    """A message of Celery 3: the task's name is in the body."""
    CONTENT_TYPE = "content_type"
    """Anything but JSON in UTF-8. It was not read: a pickle runs code when read."""
    COMPRESSED = "compressed"
    """Not unpacked: a kilobyte may hold a gigabyte."""
    TOO_LARGE = "too_large"

    BODY_ENCODING = "body_encoding"
    """The body is no text, its base64 is broken, or what comes out is not UTF-8."""
    BODY_NOT_JSON = "body_not_json"
    TOO_DEEP = "too_deep"
    """More lists and objects inside each other than any envelope has."""
    BODY_NOT_TRIPLE = "body_not_triple"
    """Not Celery's `[args, kwargs, embed]`."""
    BAD_ARGUMENTS = "bad_arguments"
    """Missing, extra or misnamed arguments for the task."""
    UNKNOWN_TASK = "unknown_task"
    WRONG_QUEUE = "wrong_queue"
    """A task of ours that has no business on this queue."""
    NOT_STORABLE = "not_storable"
    """A NUL or half of a surrogate pair: Postgres cannot hold it."""

    UNACKED_UNREADABLE = "unacked_unreadable"
    """A note in Redis's hash `unacked` that cannot be turned into a message again."""
    NOT_UNDERSTOOD = "not_understood"
    """Passed our checks and was refused by Celery, or our checks failed: a defect of ours."""
    TASK_FAILED = "task_failed"
    """The task raised what nobody expected: a defect of ours."""

    ENVELOPE_INVALID = "envelope_invalid"
    ENVELOPE_VERSION = "envelope_version"
    UNKNOWN_AGENT = "unknown_agent"
    UNKNOWN_ROUTE = "unknown_route"

    NO_ANSWER = "no_answer"
    """The model answered without a usable text, and its agent has no fallback text."""
    REFUSED = "refused"
    """Telnyx refused the request as it stands (400, 413, 422)."""
    DELIVERY_REJECTED = "delivery_rejected"
    """The channel said no for good."""
    GAVE_UP = "gave_up"
    """Too many calls of unknown outcome, or too long since the first; no fallback text."""
