"""Opt-outs that operators record, import, or read back from Telnyx."""

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from message_worker_client.envelope import EnvelopeError
from worker.domain.errors import PermanentError
from worker.domain.routing import ChannelPolicy, Routing
from worker.domain.screening.consents import LedgerEntry, Person
from worker.domain.states import ConsentSource
from worker.handlers.intake.route import address_in
from worker.store.consents import Turned
from worker.store.operators.consents import ConsentStore
from worker.telnyx.messages import OptOut

COLUMNS: Final = ("address", "scope", "state", "source", "since")
"""Of the file that is exported and imported; all but the first may be missing or empty."""
_STATES: Final = {"stopped": True, "": True, "started": False}


class NotInFormError(PermanentError):
    """A value of the file, or a name, is not what it has to be; the text names the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that was left out. `fix` never quotes it."""

    line: int
    fix: str


@dataclass(frozen=True, kw_only=True)
class Consents:
    """The ledger, for operators."""

    store: ConsentStore
    routing: Routing

    def person(self, channel: str, address: str) -> Person:
        """Return who has this address on a channel. Raises `NotInFormError`."""
        policy = self.routing.channel(channel)
        return self.routing.person(policy.scope, _address(policy, address))

    def set(self, person: Person, *, stopped: bool) -> Turned:
        """Record what a person has told our staff."""
        entry = LedgerEntry(person=person, stopped=stopped, source=ConsentSource.OPERATOR)
        return self.store.change(entry)

    def rows(self) -> Iterator[dict[str, object]]:
        """Yield the state of each person as a line of the file; of erased ones nothing is known."""
        for row in self.store.every():
            if row.address is not None:
                state = "stopped" if row.stopped else "started"
                values = (row.address, row.scope, state, row.source, row.created_at.isoformat())
                yield dict(zip(COLUMNS, values, strict=True))

    def take(
        self, lines: Iterable[str], advance: Callable[[int], None]
    ) -> tuple[Counter[str], list[BadLine]]:
        """Import a file; `advance` counts its lines. Raises `NotInFormError` without a header."""
        reader = csv.DictReader(lines)
        if "address" not in (reader.fieldnames or ()):
            raise NotInFormError(f"line 1: name the columns, such as {','.join(COLUMNS)}")
        counts, bad = Counter[str](), list[BadLine]()
        while True:
            try:
                counts[self._take(next(reader))] += 1
            except StopIteration:
                return counts, bad
            except (NotInFormError, csv.Error) as error:
                bad.append(BadLine(line=reader.line_num, fix=str(error)))
            advance(1)

    def _take(self, row: Mapping[str, str | None]) -> str:
        given = {name: (row.get(name) or "").strip() for name in COLUMNS}
        if given["state"] not in _STATES:
            raise NotInFormError("state: stopped or started")
        stopped = _STATES[given["state"]]
        policy = self._policy(given["scope"] or "telephone")
        try:
            source = ConsentSource(given["source"] or ConsentSource.IMPORT)
        except ValueError:
            raise NotInFormError(f"source: one of {', '.join(ConsentSource)}") from None
        entry = LedgerEntry(
            person=self.routing.person(policy.scope, _address(policy, given["address"])),
            stopped=stopped,
            # A file is nobody's word: it ends no opt-out but an imported one.
            source=source if stopped else ConsentSource.IMPORT,
        )
        return self._unless_older(entry, _since(given["since"]))

    def reconcile(
        self, opt_outs: Iterable[OptOut], advance: Callable[[int], None]
    ) -> tuple[Counter[str], list[BadLine]]:
        """Record the people whom Telnyx blocks. Nobody is opted in: the list may be incomplete."""
        policy = self.routing.channel(self.routing.telnyx_channel(whatsapp=False))
        counts, bad = Counter[str](), list[BadLine]()
        for number, one in enumerate(opt_outs, start=1):
            try:
                entry = LedgerEntry(
                    person=self.routing.person(policy.scope, _address(policy, one.address)),
                    stopped=True,
                    source=ConsentSource.TELNYX_KEYWORD,
                    channel=policy.name,
                    recipient=one.recipient,
                )
                counts[self._unless_older(entry, one.since)] += 1
            except NotInFormError as error:
                bad.append(BadLine(line=number, fix=str(error)))
            advance(1)
        return counts, bad

    def _unless_older(self, entry: LedgerEntry, since: datetime | None) -> str:
        """Append an entry, unless the ledger has it or knows better since then."""
        for row in self.store.history(entry.person):
            counts = row.stopped != entry.stopped or row.source == entry.source
            if since is not None and row.created_at >= since and counts:
                return "known"
        turned = self.store.change(entry, since=since)
        if turned.before != turned.after:
            return "stopped" if entry.stopped else "started"
        return "kept" if turned.after and not entry.stopped else "known"

    def _policy(self, scope: str) -> ChannelPolicy:
        """Return how addresses of a scope are written."""
        scopes = self.routing.scopes.items()
        return self.routing.channel(next((name for name, of in scopes if of == scope), scope))


def _address(policy: ChannelPolicy, address: str) -> str:
    if not address:
        raise NotInFormError("address: it is empty")
    try:
        return address_in(policy, address)
    except EnvelopeError as error:
        raise NotInFormError(str(error).replace("user:", "address:", 1)) from None


def _since(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text) if text else None
    except ValueError:
        raise NotInFormError("since: a time such as 2026-03-01T12:30:00+00:00") from None
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at
