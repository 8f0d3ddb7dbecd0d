"""What happened in a campaign, read from the tables, Telnyx's log and the workers' logs."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.mix import MODELS, QUIET_S
from tests.chaos.parts import Looker
from tests.chaos.verdict import GivenUp
from worker.sandbox.simulator import Entry
from worker.sandbox.simulator.record.events import FaultChosen, MessageStored, RequestReceived

NEVER_ZERO = (
    "adopted replies",
    "late executions adopted",
    "looks again",
    "sent again after T_QUIET",
    "stale leases refused",
    "calls of dead workers taken over",
    "account gate closed",
    "model gate closed",
    "envelopes in quarantine",
    "refused threads replaced",
    "turns given up",
    "entries lost by Redis",
    "messages sent again by producers",
    "tools run",
    "text messages that arrived",
    "mails that arrived",
    "mails that nobody knows about",
    "mails of machines left alone",
    "failovers",
    "jumps of Postgres' clock",
    "replies by webhook",
)
"""Counters without which a campaign has proved nothing."""
_LATE = frozenset({"late_execution", "stored_late"})
_ODD = ("work.failed", "worker.stalled", "Traceback", "turn.waits_for_operator", "delivery.failed")

_RESENT = """
SELECT count(*) FROM calls c
JOIN calls n ON n.turn_id = c.turn_id AND n.round = c.round AND n.attempt = c.attempt + 1
WHERE c.state = 'unknown' AND n.intent_at - c.intent_at >= make_interval(secs => %s)
"""
_REFUSED_REQUESTS = """
SELECT c.turn_id, t.agent, extract(epoch FROM c.intent_at)::float AS at
FROM calls c JOIN turns t ON t.id = c.turn_id
WHERE c.state = 'refused' AND c.reason = 'request' AND t.failure = 'refused'
"""
_SENT = "SELECT count(*) FROM deliveries WHERE channel = %s AND state = %s"
_GIVEN_UP = """
SELECT t.id, t.failure, t.input_text, v.telnyx_conversation_id AS thread,
    count(c.id) FILTER (WHERE c.state = 'unknown') AS unknown_calls,
    extract(epoch FROM t.finished_at - min(c.intent_at)
        FILTER (WHERE c.state = 'unknown' OR c.reason = 'server'))::float AS doubtful_s,
    extract(epoch FROM t.finished_at - max(c.intent_at)
        FILTER (WHERE c.state <> 'not_sent'))::float AS since_newest_s
FROM turns t LEFT JOIN calls c ON c.turn_id = t.id
    LEFT JOIN conversations v ON v.id = t.conversation_id
WHERE t.state = 'failed' GROUP BY t.id, v.id ORDER BY t.id
"""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Reads each thing once asked for."""

    looker: Looker
    log: Sequence[Entry]
    workers: Path
    """The folder of the workers' logs."""
    was_withdrawn: Callable[[str, float], bool] = lambda _model, _at: False
    """Whether a model was withdrawn at a time of Postgres' clock."""

    def counters(
        self, *, gates: AbstractSet[str], resent: AbstractSet[str], lost_entries: int
    ) -> dict[str, int]:
        """Count what a campaign must have seen. `gates`: names of those that were ever closed."""
        value = self.looker.value
        refused = Counter(
            row["reason"]
            for row in self.looker.rows("SELECT reason FROM calls WHERE state = 'refused'")
        )
        return {
            "adopted replies": value("SELECT count(*) FROM replies WHERE source = 'adopted'"),
            "late executions adopted": self._late_adopted(),
            "looks again": sum(_looks_again(self.log)),
            "sent again after T_QUIET": value(_RESENT, QUIET_S),
            "stale leases refused": self.words("lease.stale")["lease.stale"],
            "calls of dead workers taken over": value(
                "SELECT count(*) FROM calls WHERE reason = 'its worker died'"
            ),
            "account gate closed": max(refused["account"], int("account" in gates)),
            "model gate closed": max(
                refused["rate"], sum(name.startswith("model:") for name in gates)
            ),
            "agent gate closed": sum(name.startswith("agent:") for name in gates),
            "envelopes in quarantine": value(
                "SELECT count(*) FROM dead_letters WHERE kind = 'envelope'"
            ),
            "refused threads replaced": value(
                "SELECT count(*) FROM conversations WHERE close_reason = 'refused'"
            ),
            "turns given up": value(
                "SELECT count(*) FROM turns WHERE state = 'failed' AND failure <> 'split'"
            ),
            "entries lost by Redis": lost_entries,
            "messages sent again by producers": len(resent),
            "text messages that arrived": value(_SENT, "sms", "sent"),
            "mails that arrived": value(_SENT, "mail", "sent"),
            "mails that nobody knows about": value(_SENT, "mail", "unknown"),
        }

    def given_up(self) -> list[GivenUp]:
        """Give the turns that failed."""
        alone = _items_that_stand_alone(self.log)
        withdrawn = Counter(
            row["turn_id"]
            for row in self.looker.rows(_REFUSED_REQUESTS)
            if self.was_withdrawn(MODELS[row["agent"]], row["at"])
        )
        return [
            GivenUp(
                turn_id=row["id"],
                failure=row["failure"] or "",
                unknown_calls=row["unknown_calls"],
                doubtful_s=row["doubtful_s"],
                since_newest_s=row["since_newest_s"],
                item_stands_alone=row["input_text"] in alone[str(row["thread"])],
                refusals_withdrawn=withdrawn[row["id"]],
            )
            for row in self.looker.rows(_GIVEN_UP)
        ]

    def texts(self, where: str) -> set[str]:
        """Give the texts of messages whose turn or reply fits."""
        found = self.looker.rows(
            "SELECT m.envelope->>'text' AS text FROM messages m JOIN turns t ON t.id = m.turn_id"
            f" LEFT JOIN replies r ON r.turn_id = t.id WHERE {where}"
        )
        return {row["text"] for row in found}

    def accepted(self) -> dict[int, list[str]]:
        """Give the texts of each channel user as the service sorts them."""
        return self._grouped(
            "SELECT channel_user_id AS key, envelope->>'text' AS text FROM messages"
            " ORDER BY channel_user_id, order_at, seq"
        )

    def answered_by_delivery(self) -> dict[int, list[str]]:
        """Give the texts that the reply of each delivery is an answer to."""
        return self._grouped(
            "SELECT d.id AS key, m.envelope->>'text' AS text FROM deliveries d"
            " JOIN replies r ON r.id = d.reply_id JOIN messages m ON m.turn_id = r.turn_id"
        )

    def _grouped(self, query: str) -> dict[int, list[str]]:
        grouped: dict[int, list[str]] = defaultdict(list)
        for row in self.looker.rows(query):
            grouped[row["key"]].append(row["text"])
        return grouped

    def letters(self) -> Counter[str]:
        """Count dead letters by reason."""
        rows = self.looker.rows("SELECT reason, count(*) AS n FROM dead_letters GROUP BY 1")
        return Counter({row["reason"]: row["n"] for row in rows})

    def states(self) -> dict[str, dict[str, int]]:
        """Count rows by how they ended."""
        asked = {
            "messages": "SELECT coalesce(outcome, state) AS k, count(*) AS n FROM messages",
            "calls": "SELECT state || coalesce(' ' || reason, '') AS k, count(*) AS n FROM calls",
            "replies": "SELECT source AS k, count(*) AS n FROM replies",
            "deliveries": "SELECT state AS k, count(*) AS n FROM deliveries",
        }
        return {
            name: {row["k"]: row["n"] for row in self.looker.rows(f"{query} GROUP BY 1 ORDER BY 1")}
            for name, query in asked.items()
        }

    def faults(self) -> dict[str, int]:
        """Count the faults that Telnyx played."""
        return dict(
            Counter(
                e.event.name for e in self.log if isinstance(e.event, FaultChosen)
            ).most_common()
        )

    def words(self, *wanted: str) -> Counter[str]:
        """Count lines of the workers' logs that hold a word; without any, the odd ones."""
        counted: Counter[str] = Counter()
        for file in sorted(self.workers.glob("*.log")):
            with file.open(errors="replace") as lines:
                for line in lines:
                    counted.update(word for word in wanted or _ODD if word in line)
        return counted

    def _late_adopted(self) -> int:
        late = {
            entry.event.request
            for entry in self.log
            if isinstance(entry.event, FaultChosen) and entry.event.name in _LATE
        }
        outputs = {
            event.message.text
            for event in _stored(self.log)
            if event.request in late and event.message.origin == "output"
        }
        adopted = self.looker.rows("SELECT text FROM replies WHERE source = 'adopted'")
        return sum(row["text"] in outputs for row in adopted)


def _stored(log: Iterable[Entry]) -> Iterator[MessageStored]:
    return (entry.event for entry in log if isinstance(entry.event, MessageStored))


def _looks_again(log: Iterable[Entry]) -> Iterator[bool]:
    """Whether each reading of a thread followed another one with no request for a response."""
    looked: dict[Any, bool] = {}
    for entry in log:
        event = entry.event
        if not isinstance(event, RequestReceived) or event.conversation_id is None:
            continue
        if event.endpoint == "messages":
            yield looked.get(event.conversation_id, False)
        looked[event.conversation_id] = event.endpoint == "messages"


def _items_that_stand_alone(log: Iterable[Entry]) -> dict[str, list[str]]:
    """Give, by thread, the user items that got no output, or whose tools' outputs got none."""
    asked: dict[int | None, tuple[str, str]] = {}
    newest: dict[str, str] = {}
    for event in _stored(log):
        thread = event.conversation_id
        if event.message.origin == "output":
            asked.pop(event.request, None)
        elif event.message.role == "user":
            newest[thread] = event.message.text or ""
            asked[event.request] = (thread, newest[thread])
        elif event.message.role == "tool":
            asked[event.request] = (thread, newest[thread])
    alone: dict[str, list[str]] = defaultdict(list)
    for thread, text in asked.values():
        alone[thread].append(text)
    return alone
