"""Several workers on one Postgres and one Telnyx, moved step by step by a schedule.

Every worker is what `build_service` builds; only the sockets to Telnyx, the sleeping and the broker
are the test's, and each store and HTTP call passes a tap.
"""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.faults.state_machine.clock import Clock, install_clock
from tests.faults.state_machine.hands import Broker, Builder, Hand, SinkChannel, Watch
from tests.faults.state_machine.taps import Actor, Crash
from tests.faults.state_machine.telnyx import InProcessTelnyx
from tests.support.oracle import Expectations, Violation, check
from tests.support.slots import taken
from tests.support.world import NAMESPACE, Database
from worker.config.settings import Settings
from worker.domain.errors import RetryableError
from worker.domain.ids import ChannelUserId
from worker.store.database import Database as Pool

CALL_TIMEOUT_S = 75.0
AGENTS = f"""
default_agent = "kind"
[agents.kind]
call_timeout_s = {CALL_TIMEOUT_S}
instructions = "be kind"
fallback_text = "We will call you back."
[agents.plain]
call_timeout_s = {CALL_TIMEOUT_S}
[channels.sms]
reorder_s = 2.0
[channels.chat]
agent = "plain"
reorder_s = 2.0
[channels.chat.delivery]
task = "replaced by the test's own channel"
queue = "none"
[channels.anonymous]
persist = false
[channels.burst]
debounce_s = 3.0
max_wait_s = 8.0
supersede = true
"""
"""Waits above a second, so that no handler sleeps; the clock that the test moves gets there."""
PEOPLE = (
    ("sms", "+13125550001"),
    ("chat", "anna"),
    ("burst", "bob"),
    ("anonymous", "nobody"),
)
HEALED_WITHIN_S = 90 + 180 + 300 + 60
"""A lease, T_QUIET, the longest that a gate stays closed, and slack."""
_FORGET = "; ".join(
    f"DELETE FROM {table}"
    for table in (
        "attempt_log",
        "dead_letters",
        "deliveries",
        "replies",
        "tool_calls",
        "messages",
        "calls",
        "turns",
        "conversations",
        "channel_users",
        "workers",
        "gates",
        "inbox",
    )
)
_UNFINISHED = """
SELECT (SELECT count(*) FROM messages m JOIN channel_users u ON u.id = m.channel_user_id
        WHERE m.outcome IS NULL AND u.diverged_at IS NULL)
    + (SELECT count(*) FROM deliveries WHERE state IN ('pending', 'sending'))
"""
_NEXT = """
SELECT min(at) FROM (
    SELECT due_at AS at FROM channel_users WHERE diverged_at IS NULL
    UNION ALL SELECT lease_until FROM channel_users WHERE diverged_at IS NULL
    UNION ALL SELECT woken_at + interval '10.1 s' FROM channel_users
    UNION ALL SELECT due_at FROM deliveries UNION ALL SELECT lease_until FROM deliveries
) AS times WHERE at > service_now()
"""


class Stage:
    """Built once for many schedules; `reset` starts the next one."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.database = Database(database_url)
        install_clock(self.database)
        agents = folder / "agents.toml"
        agents.write_text(AGENTS)
        self.telnyx = InProcessTelnyx(call_timeout_s=CALL_TIMEOUT_S)
        # There is no pooler in between, and planning is half of the work.
        self._pool = Pool(database_url, pool_size=5, prepare=True)
        self._builder = Builder(
            settings=Settings(
                database_url=database_url,
                broker_url="redis://127.0.0.1:1/0",
                telnyx_api_key=self.telnyx.api_key,
                telnyx_base_url=self.telnyx.base_url,
                namespace=NAMESPACE,
                agents_file=agents,
            ),
            pool=self._pool,
            telnyx=self.telnyx,
            broker=Broker(),
            sink=SinkChannel(),
            run_here=[],
            watch=Watch(self._pool),
        )
        self.broker, self.sink = self._builder.broker, self._builder.sink
        self.watch, self._run_here = self._builder.watch, self._builder.run_here
        self.counts = self.watch.counts
        self._built: list[Hand] = []
        self._spare: list[Hand] = []
        self.hands: list[Hand] = []
        self.reset(hands=0)

    def reset(self, *, hands: int = 3) -> None:
        """Forget everything but the counters."""
        self._end_actors()
        self.telnyx.finish()
        self.telnyx.reset()
        self.database.run(_FORGET)
        self.clock = Clock(database=self.database, on_advance=self.telnyx.tick)
        self.watch.forget()
        self.telnyx.clock = self.clock
        self.watch.sleep = self.clock.advance
        self.clock.advance(0)
        for kept in (self.broker.woken, self.broker.deliveries, self._run_here):
            kept.clear()
        self.sink.taken.clear()
        self.sink.outcomes.clear()
        self.broker.away = False
        self.unacknowledged: list[dict[str, object]] = []
        self.envelopes: list[dict[str, object]] = []
        self._spare = list(self._built)
        self.hands = [self.new_hand() for _ in range(hands)]

    def close(self) -> None:
        self._end_actors()
        self.telnyx.finish()
        self.telnyx.close()
        self._pool.close()
        self.database.close()

    def new_hand(self) -> Hand:
        """Start a worker process. The parts of dead ones are used again, by the next schedule."""
        if not self._spare:
            self._spare.append(self._builder.build())
            self._built.append(self._spare[-1])
        hand = self._spare.pop()
        hand.begin_anew()
        return hand

    # Steps ---------------------------------------------------------------------------------------

    def run(self, hand: Hand, work: Callable[[], object]) -> None:
        """Let a worker do something, until it ends, is held or crashes."""

        def guarded() -> None:
            try:
                work()
            except RetryableError:
                self.counts["task failed, to be tried again"] += 1

        if not any(trap.kind == "hold" for trap in hand.taps.traps):
            try:
                guarded()
            except Crash:
                self._bury(hand)
            return
        hand.actor = hand.taps.actor = Actor(guarded)
        self.go(hand)

    def go(self, hand: Hand) -> None:
        """Let a held worker go on."""
        actor = hand.actor
        if actor is None:
            return
        try:
            if not actor.go():
                return
        finally:
            if actor.finished:
                hand.actor = hand.taps.actor = None
        hand.beating = True
        if actor.crashed:
            self._bury(hand)

    def kill(self, hand: Hand) -> None:
        """Kill -9, held or not; another process takes its place."""
        if hand.actor is not None:
            hand.actor.kill()
            hand.actor = hand.taps.actor = None
        self._bury(hand)

    def _bury(self, hand: Hand) -> None:
        self.counts["crash"] += 1
        place = self.hands.index(hand)
        self.hands[place] = self.new_hand()

    def _end_actors(self) -> None:
        for hand in self.hands:
            if hand.actor is not None:
                hand.actor.kill()
                hand.actor = None

    def receive(self, hand: Hand, envelope: dict[str, object], *, slot: bool = True) -> None:
        """Let a worker take an envelope from the queue."""
        self.unacknowledged.append(envelope)

        def work() -> None:
            with nullcontext() if slot else taken(hand.service.receive.slots):
                raw = json.dumps([[], {"envelope": envelope}, {}]).encode()
                hand.service.receive(envelope, raw=lambda: raw, queue="inbound")
            if envelope in self.unacknowledged:  # else it has been delivered again meanwhile
                self.unacknowledged.remove(envelope)

        self.run(hand, work)

    def envelope(self, person: int, text: str, **fields: object) -> dict[str, object]:
        """Write an envelope of one of the people."""
        channel, user = PEOPLE[person]
        made = {
            "version": 1,
            "channel": channel,
            "user": user,
            "message_id": f"m-{len(self.envelopes) + 1}",
            "text": text,
            **fields,
        }
        self.envelopes.append(made)
        return made

    def sweep(self, hand: Hand) -> None:
        """One look for due work; what cannot be published runs in the same process."""

        def work() -> None:
            hand.service.background.sweep()
            while self._run_here:
                hand.service.answer(*self._run_here.pop(0))

        self.run(hand, work)

    def follow(self, hand: Hand, place: int = 0) -> None:
        """Let a worker take a wake from the queue."""
        if self.broker.woken:
            due = self.broker.woken.pop(place % len(self.broker.woken))
            self.run(hand, lambda: hand.service.answer(*due))

    def deliver(self, hand: Hand) -> None:
        """Let a worker take a delivery's wake from the queue."""
        if self.broker.deliveries:
            user_id = self.broker.deliveries.pop(0)
            self.run(hand, lambda: hand.service.deliver(user_id))

    def advance(self, seconds: float) -> None:
        """Let time pass; processes that live renew their rows."""
        self.clock.advance(seconds)
        self.database.run(
            "UPDATE workers SET alive_until = service_now() + interval '15 s' WHERE id = ANY(%s)",
            [hand.worker_id for hand in self.hands if hand.beating],
        )

    def user_id(self, person: int) -> ChannelUserId | None:
        channel, address = PEOPLE[person]
        rows = self.database.rows(
            "SELECT id FROM channel_users WHERE channel = %s AND address = %s", channel, address
        )
        return rows[0]["id"] if rows else None

    def conversation(self, person: int) -> UUID | None:
        """Give the open Telnyx conversation of one of the people."""
        rows = self.database.rows(
            "SELECT telnyx_conversation_id AS id FROM conversations WHERE channel_user_id = %s"
            " AND closed_at IS NULL",
            self.user_id(person),
        )
        return rows[0]["id"] if rows else None

    # The end -------------------------------------------------------------------------------------

    def heal(self) -> None:
        """End all faults and let a fresh worker go on until everything is final."""
        self.telnyx.state.faults.clear()
        self.sink.outcomes.clear()
        self.broker.away = False
        for hand in self.hands:
            hand.beating = False
            if not hand.held:
                hand.taps.traps.clear()
        fresh = self.new_hand()
        self.hands.append(fresh)
        self.clock.advance(0.01)
        for envelope in list(self.unacknowledged):
            self.unacknowledged.remove(envelope)
            self.receive(fresh, envelope)
        began_s = self.clock.now_s
        while True:
            self._work_off(fresh)
            if not self.database.value(_UNFINISHED):
                return
            if self.clock.now_s - began_s > HEALED_WITHIN_S:
                raise AssertionError(
                    f"I2: not final after {HEALED_WITHIN_S} s of health: {self._unfinished()}"
                )
            at = self.database.value(_NEXT)
            wait_s = 5.0 if at is None else (at - self.clock.moment()).total_seconds()
            self.clock.advance(wait_s + 0.001)
            fresh.service.background.workers.beat(0.0)

    def _unfinished(self) -> list[dict[str, Any]]:
        return self.database.rows(
            "SELECT u.channel, u.due_at - service_now() AS due, u.woken_at, u.lease_owner,"
            " u.lease_until - service_now() AS lease, m.state, m.outcome, m.id"
            " FROM channel_users u JOIN messages m ON m.channel_user_id = u.id"
        )

    def _work_off(self, hand: Hand) -> None:
        for _ in range(30):
            self.sweep(hand)
            if not self.broker.woken and not self.broker.deliveries:
                return
            while self.broker.woken:
                self.follow(hand)
            while self.broker.deliveries:
                self.deliver(hand)
        raise AssertionError("somebody is due again and again at the same moment")

    def write_afterword(self) -> None:
        """Everybody writes again and the answer gets lost: only who has counted right adopts."""
        hand = self.hands[-1]
        for person, (channel, address) in enumerate(PEOPLE):
            if not self.database.rows(
                "SELECT FROM channel_users WHERE diverged_at IS NULL AND paused_at IS NULL"
                " AND channel = %s AND address = %s",
                channel,
                address,
            ):
                continue
            if channel != "anonymous":
                self.telnyx.inject("stored_then_dropped")
            self.clock.advance(0.001)
            self.receive(hand, self.envelope(person, "and one more thing"))

    def violations(self) -> list[Violation]:
        """Ask the oracle, and the taps."""
        expected = Expectations(accepted=self.watch.accepted, delivered=self.sink.taken)
        return [*self.watch.violations, *check(self.database, self.telnyx.log(), expected)]
