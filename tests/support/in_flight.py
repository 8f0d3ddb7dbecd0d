"""What an earlier commit left in flight, brought back to life: see `fixtures/commit_*/record.py`.

The rows keep their times. It is the database's clock that is set: to a minute after the recording,
when every lease of the dead workers has ended.
"""

import base64
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from redis import Redis

from tests.support.oracle import MessageKey

FIXTURES = Path(__file__).parents[1] / "fixtures"
WEBHOOK_SECRET = "whsec_" + "A" * 32
LATER_S = 60.0
"""From the end of the recording to the start of a replay, on the database's clock."""

TAKEN_EARLIER_S = 3600.0


@dataclass(frozen=True)
class Recording:
    """One folder of them, by the commit's name."""

    commit: str

    @property
    def folder(self) -> Path:
        return FIXTURES / f"commit_{self.commit}"

    @cached_property
    def keys(self) -> dict[str, Any]:
        """What is in Redis, by key."""
        found: dict[str, Any] = json.loads((self.folder / "redis.json").read_text())
        return found

    def seconds_behind(self) -> float:
        """How far the database's clock must be set back."""
        facts = json.loads((self.folder / "recording.json").read_text())
        age = datetime.now(UTC) - datetime.fromisoformat(facts["recorded_at"])
        return age.total_seconds() - LATER_S

    def agents_file(self, receiver_url: str, timing: str) -> str:
        text = (self.folder / "agents.toml").read_text()
        return text.replace("{receiver}", receiver_url) + timing

    def restore_rows(self, database_url: str) -> None:
        """Fill an empty database; its revision is the recording's."""
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute((self.folder / "database.sql").read_bytes())

    def restore_redis(self, redis: Redis) -> None:
        """Fill an empty Redis, byte for byte; only when entries were taken is set back.

        Those of a dead worker come back two minutes later by the clock of this machine.
        """
        for key, value in self.keys.items():
            match value:
                case list() if key.startswith("_kombu.binding"):
                    redis.sadd(key, *value)
                case list():
                    redis.rpush(key, *value)
                case dict() if all(isinstance(one, float) for one in value.values()):
                    redis.zadd(key, {tag: at - TAKEN_EARLIER_S for tag, at in value.items()})
                case dict():
                    redis.hset(key, mapping=value)

    def copy_of_log(self, folder: Path) -> Path:
        """Give a log that the simulator may go on writing."""
        return Path(shutil.copy(self.folder / "simulator.jsonl", folder))

    def entries(self) -> list[dict[str, Any]]:
        """All queue entries, those that a worker had taken included."""
        waiting = [
            entry
            for key, value in self.keys.items()
            if isinstance(value, list) and key.partition("\x06")[0] in {"inbound", "turns"}
            for entry in value
        ]
        taken = [json.loads(note)[0] for note in self.keys["unacked"].values()]
        return [*(json.loads(entry) for entry in waiting), *taken]

    def queued(self) -> set[MessageKey]:
        """The messages that the queue entries carry."""
        return {
            key_of(json.loads(base64.b64decode(entry["body"]))[1]["envelope"])
            for entry in self.entries()
            if entry["headers"]["task"] == "messages.receive"
        }


def key_of(envelope: dict[str, Any]) -> MessageKey:
    """Give what identifies a message."""
    return MessageKey(
        channel=envelope["channel"],
        address=envelope["user"],
        message_id=envelope["message_id"],
        recipient=envelope.get("recipient", ""),
        thread=envelope.get("thread", ""),
    )
