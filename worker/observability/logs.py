"""Logs: JSON lines with event names and ids; never a text, an address or a key."""

import logging
import sys
import threading
from contextlib import suppress

import structlog

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("worker")
"""The service's logger: `log.info("turn.answered", turn=7)`."""

_TASK_LOGGERS = ("celery.worker.strategy", "celery.app.trace")
"""They log "received" and "succeeded" for each task; our own events cover the work."""


class _Lines:
    """stderr, a line at a time. Celery's handler writes to it too, and never halves a line."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        # Of a signal that comes while a line is written, the handler may log.
        self._lock = threading.RLock()

    def _write(self, line: str) -> None:
        # No work fails because a line of it cannot be written: a full disk, a closed pipe.
        with suppress(Exception), self._lock:
            self._stream.write(line + "\n")

    debug = info = warning = error = critical = _write


def configure_logging(level: str = "INFO") -> None:
    """Log to stderr, Celery's own lines too: JSON, or colours on a terminal.

    Our lines go there directly: through the handlers of `logging` each would cost four times the
    CPU, and a message has half a dozen.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    terminal = sys.stderr.isatty()
    renderers: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
    ]
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    # Replaced, not added to: a second handler would log each line twice.
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    lines = _Lines()
    structlog.configure(
        processors=[*shared, _add_our_name, *renderers],
        logger_factory=lambda *_: lines,
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        cache_logger_on_first_use=True,
    )
    # Its warnings are texts of Postgres, which may quote values. Errors arrive as exceptions.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    for name in _TASK_LOGGERS:
        logging.getLogger(name).setLevel("WARNING" if level == "INFO" else "NOTSET")


def _add_our_name(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    event["logger"] = "worker"
    return event


def log_warnings_only() -> None:
    """Log only warnings, to stderr: stdout belongs to the output of a command."""
    structlog.configure(
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
