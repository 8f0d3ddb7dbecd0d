"""The lines of the log as they reach stderr: ours, and those of libraries."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from worker.observability.logs import configure_logging


class Full(io.StringIO):
    """A stream of a full disk."""

    def write(self, _: str) -> int:
        """Fail."""
        raise OSError(28, "No space left on device")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave the configuration as it was."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def test_our_lines_and_those_of_libraries_have_one_form(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    configure_logging("INFO")
    log = structlog.get_logger("worker")
    with structlog.contextvars.bound_contextvars(trace="t1"):
        log.info("turn.settled", turn=7)
        logging.getLogger("kombu").warning("lost %s", "it")
    log.debug("turn.looked")
    log.error("turn.failed", exc_info=ValueError("hush"))
    ours, theirs, failed = map(json.loads, stderr.getvalue().splitlines())
    assert ours.pop("timestamp").endswith("Z")
    assert ours == {
        "event": "turn.settled",
        "level": "info",
        "logger": "worker",
        "trace": "t1",
        "turn": 7,
    }
    assert theirs.keys() == ours.keys() - {"turn"} | {"timestamp"}
    assert theirs["logger"] == "kombu"
    assert theirs["event"] == "lost it"
    assert (failed["level"], "ValueError: hush" in failed["exception"]) == ("error", True)


def test_no_work_fails_because_its_log_line_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr", Full())
    configure_logging("INFO")
    structlog.get_logger("worker").info("turn.settled", turn=7)
