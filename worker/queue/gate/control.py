"""The gate of remote control: who can write to the broker can publish there.

    commands    `ping`, `inspect …` and the switches for events, with the arguments they have
    replies     and events, in the programs that read them: `celery inspect`, Flower
    the rest    dropped, counted and logged, with a reason and nothing of its content

So no `revoke`, `rate_limit`, `shutdown` or `add_consumer` of anyone's has an effect, such as those
of another Celery application in the same Redis database. Workers are stopped by signals.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from message_worker_client.envelope.wire import MAX_BODY_BYTES
from worker.observability import metrics
from worker.observability.logs import log
from worker.queue.gate.entry import EntryRefusedError, read_message

_MAX_COMMAND_BYTES: Final = 64 * 1024
_REPLIES: Final = re.compile(r"[0-9a-f-]{36}\.reply\..*\.pidbox")
_REPLY_EXCHANGE: Final = re.compile(r"reply\.[\w-]{1,64}\.pidbox")
_TICKET: Final = re.compile(r"[\w-]{1,64}")
_MAX_IDS: Final = 100
_MAX_CHARACTERS: Final = 255
"""Of a name; RabbitMQ has that limit, too."""


def _is_flag(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _is_empty(value: object) -> bool:
    # `registered` would show any attribute of a task.
    return not value


def _is_names(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MAX_IDS
        and all(isinstance(one, str) and len(one) <= _MAX_CHARACTERS for one in value)
    )


_COMMANDS: Final[Mapping[str, Mapping[str, Callable[[object], bool]]]] = {
    "ping": {},
    "active": {"safe": _is_flag},
    "active_queues": {},
    "clock": {},
    "conf": {"with_defaults": _is_flag},
    "query_task": {"ids": _is_names},
    "registered": {"taskinfoitems": _is_empty, "builtins": _is_flag},
    "report": {},
    "reserved": {},
    "revoked": {},
    "scheduled": {},
    "stats": {},
    "enable_events": {},
    "disable_events": {},
    "heartbeat": {},
}
"""The commands that a worker obeys, and a check for each argument they take."""


def read_broadcast(raw: bytes, *, queue: str) -> tuple[dict[str, Any], bytes, Any] | None:
    """Return headers, body and content of a message that is for no task; None = it is dropped.

    `queue`: its name says whether a command is expected, or a reply or event. Never raises.
    """
    is_command = queue.endswith(".pidbox") and _REPLIES.fullmatch(queue) is None
    try:
        wrapper, body, content = read_message(
            raw, max_body_bytes=_MAX_COMMAND_BYTES if is_command else MAX_BODY_BYTES
        )
        if is_command:
            return {}, body, _command(content)
        return _labels(wrapper.get("headers")), body, content
    except EntryRefusedError as refusal:
        reason = refusal.reason.value
    except _NotAllowedError as refusal:
        reason = str(refusal)
    except Exception as error:  # noqa: BLE001 - a defect of ours costs one message, not the worker
        reason = type(error).__name__
    metrics.CONTROL_DROPPED.labels(reason).inc()
    log.warning("control_message.dropped", reason=reason)
    return None


class _NotAllowedError(Exception):
    """`str()` is a slug."""


def _command(content: object) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise _NotAllowedError("not_a_command")
    method, arguments = content.get("method"), content.get("arguments") or {}
    checks = _COMMANDS.get(method) if isinstance(method, str) else None
    if checks is None:
        raise _NotAllowedError("not_allowed")
    # Also of one that is left out: Celery's `query_task` fails without its ids.
    if not isinstance(arguments, dict) or not (
        arguments.keys() <= checks.keys()
        and all(check(arguments.get(name)) for name, check in checks.items())
    ):
        raise _NotAllowedError("bad_arguments")
    destination, ticket = content.get("destination"), content.get("ticket")
    # `pattern` and `matcher` select workers by a regular expression of a stranger's.
    if content.get("pattern") or not (destination is None or _is_names(destination)):
        raise _NotAllowedError("bad_destination")
    if not (ticket is None or (isinstance(ticket, str) and _TICKET.fullmatch(ticket))):
        raise _NotAllowedError("bad_ticket")
    return {
        "method": method,
        "arguments": arguments,
        "destination": destination,
        "reply_to": _reply_to(content.get("reply_to")),
        "ticket": ticket,
    }


def _reply_to(given: object) -> dict[str, str] | None:
    match given:
        case None:
            return None
        case {"exchange": str() as exchange, "routing_key": str() as key} if (
            # To any other exchange it would make us write into our own queues.
            _REPLY_EXCHANGE.fullmatch(exchange) and len(key) <= _MAX_CHARACTERS
        ):
            return {"exchange": exchange, "routing_key": key}
        case _:
            raise _NotAllowedError("bad_reply_to")


def _labels(headers: object) -> dict[str, Any]:
    """Return the headers that Celery reads of a reply or an event."""
    given = headers if isinstance(headers, dict) else {}
    kinds = {"clock": int, "ticket": str, "hostname": str}
    return {name: given[name] for name, kind in kinds.items() if isinstance(given.get(name), kind)}
