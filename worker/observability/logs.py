"""Logs: JSON lines of event names and ids; never a text, an address or a key."""

import logging
import sys

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger("worker")
"""The service's logger: `log.info("turn.answered", turn=7)`."""

_SAID_TWICE = ("celery.worker.strategy", "celery.app.trace")
"""Celery's "received" and "succeeded", two lines for each task: what it did says it itself."""


def configure_logging(level: str = "INFO") -> None:
    """Send everything, Celery's own lines too, to stderr: JSON, or colours on a terminal."""
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
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # It warns with Postgres's words, which may quote values. Errors reach us as exceptions.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    for name in _SAID_TWICE:
        logging.getLogger(name).setLevel("WARNING" if level == "INFO" else "NOTSET")


def log_warnings_only() -> None:
    """For commands: their output is theirs, so only warnings are logged, to stderr."""
    structlog.configure(
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
