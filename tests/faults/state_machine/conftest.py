"""The stage that schedules are played on; it logs only where LOG_NUMBER (10 = all) says so."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.faults.state_machine.stage import Stage


@pytest.fixture
def stage(database_url: str, tmp_path: Path) -> Iterator[Stage]:
    level = int(os.environ.get("LOG_NUMBER", "50"))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    made = Stage(database_url, tmp_path)
    yield made
    made.close()
    structlog.reset_defaults()
