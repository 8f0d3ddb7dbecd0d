"""One look at a mailbox in a child process that is killed at a chosen step."""

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.crashing import Boundary, Stop, Watched, crossing
from tests.support.world import NAMESPACE
from worker.bootstrap.mailbox import build_mailbox
from worker.config.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the child does, and where it stops."""

    database_url: str
    imap_url: str
    agents_file: Path
    journal: Path
    since: Any
    stop: Stop | None = None


def look(job: Look) -> None:
    """Look once. Every call of the session, of the store and of TakeMail is a boundary."""
    settings = Settings(
        database_url=job.database_url,
        broker_url="redis://127.0.0.1:1/0",
        telnyx_api_key="KEY",
        namespace=NAMESPACE,
        agents_file=job.agents_file,
        imap_url=job.imap_url,
    )
    boundary = Boundary(job.journal, job.stop)
    reader = build_mailbox(settings, since=job.since).reader
    store: Any = Watched(reader.store, boundary)
    take = crossing(reader.take, "take", boundary)
    with closing(reader.connect()) as session:
        watched: Any = Watched(session, boundary)
        replace(reader, store=store, take=take)._look(watched)
