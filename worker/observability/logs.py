"""Logs: JSON lines with event names and ids; never a text, an address or a key."""

import logging
import sys

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger("worker")
"""The service's logger: `log.info("turn.answered", turn=7)`."""

_TASK_LOGGERS = ("celery.worker.strategy", "celery.app.trace")
"""They log "received" and "succeeded" for each task; our own events cover the work."""


def configure_logging(level: str = "INFO") -> None:
    """Log to stderr, Celery's own lines too: JSON, or colours on a terminal."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    # Replaced, not added to: a second handler would log each line twice.
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Its warnings are texts of Postgres, which may quote values. Errors arrive as exceptions.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    for name in _TASK_LOGGERS:
        logging.getLogger(name).setLevel("WARNING" if level == "INFO" else "NOTSET")


def log_warnings_only() -> None:
    """Log only warnings, to stderr: stdout belongs to the output of a command."""
    structlog.configure(
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
