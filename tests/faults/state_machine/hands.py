"""Worker processes in the test's hand: what `build_service` builds, with taps in between.

Only the sockets to Telnyx, the sleeping and the broker are the test's own.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import Any
from uuid import uuid4

from tests.faults.state_machine.taps import Actor, Side, Tapped, Taps, Trap
from tests.faults.state_machine.telnyx import InProcessHttp, InProcessTelnyx
from tests.support.oracle import Delivered, MessageKey, Violation
from tests.support.world import RecordingBroker
from worker.bootstrap.service import Service, build_service
from worker.config.settings import Settings
from worker.domain.deliveries import (
    DeliveryOutcome,
    NotDelivered,
    OutgoingReply,
    Rejected,
    Sent,
    Unclear,
)
from worker.domain.errors import BrokerAwayError
from worker.domain.messages import Accepted
from worker.domain.turns.claim import Claimed, NotClaimed, Settled
from worker.domain.turns.records import Lease
from worker.store.database import Database as Pool
from worker.store.turns.due_users import Due
from worker.telnyx.client import TelnyxClient
from worker.telnyx.conversations import Conversations
from worker.telnyx.responses import Responses


@dataclass
class SinkChannel:
    """A provider that remembers what it took, and fails as told."""

    takes_key: bool = True
    outcomes: list[str] = field(default_factory=list)
    taken: list[Delivered] = field(default_factory=list)

    def deliver(self, reply: OutgoingReply) -> DeliveryOutcome:
        outcome = self.outcomes.pop(0) if self.outcomes else "sent"
        if outcome == "refused":
            return NotDelivered(reason="busy")
        if outcome == "rejected":
            return Rejected(reason="no")
        if outcome != "lost":
            self.taken.append(
                Delivered(
                    user_id=reply.user_id,
                    delivery_id=reply.delivery_id,
                    key=str(reply.idempotency_key),
                    text=reply.text,
                )
            )
        return Sent() if outcome == "sent" else Unclear(reason=outcome)


class Inline:
    """Stands for a `LocalRunner`: keeps the work for the schedule to run."""

    free = 8

    def __init__(self, keep: Callable[..., None]) -> None:
        self._keep = keep

    def __call__(self, *work: object) -> None:
        self._keep(*work)


@dataclass
class Broker(RecordingBroker):
    """The wakes that are on their way; shared by all workers."""

    away: bool = False

    def wake(self, due: Sequence[Due]) -> None:
        if self.away:
            raise BrokerAwayError
        super().wake(due)

    def publish(self, task: str, queue: str, task_id: str, kwargs: dict[str, Any]) -> None:
        raise AssertionError(f"nobody has a task here: {task} {queue} {task_id} {len(kwargs)}")


@dataclass
class Hand:
    """One worker process."""

    service: Service
    stores: Service
    """The same without taps."""
    taps: Taps
    worker_id: str = ""
    beating: bool = True
    actor: Actor | None = None
    """Not None while it is held in the middle of something."""

    @property
    def held(self) -> bool:
        return self.actor is not None

    def begin_anew(self) -> None:
        """Become another process: a fresh identity, a first heartbeat."""
        fresh, answer = uuid4(), self.stores.answer
        for store in (answer.claims, answer.turns, self.stores.receive.starts):
            store._worker_id = fresh  # type: ignore[attr-defined]
        self.stores.background.workers._values["id"] = fresh
        self.worker_id, self.beating, self.actor, self.taps.actor = str(fresh), True, None, None
        self.taps.traps.clear()
        self.stores.background.workers.beat(0.0)


class Watch:
    """What the taps see: counters, acknowledged messages, and writes that must not be."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.sleep: Callable[[float], None] = lambda _: None
        """What happens where a worker sleeps: the clock goes on instead."""
        self.counts: Counter[str] = Counter()
        self.forget()

    def forget(self) -> None:
        """Begin another schedule; the counters stay."""
        self.accepted: list[MessageKey] = []
        self.violations: list[Violation] = []
        self._newest: dict[int, int] = {}

    def passed(self, point: str, side: Side) -> None:
        """Hold I10: no connection is out while Telnyx is asked."""
        free = self._pool._free
        if point.startswith("telnyx.") and free._value < free._initial_value:
            self.violations.append(Violation("I10", f"a connection is held {side} {point}"))

    def refused(self) -> None:
        self.counts["stale lease refused"] += 1

    def begun(self, args: tuple[Any, ...], result: Claimed | NotClaimed) -> object:
        if isinstance(result, Claimed):
            self._newest[args[0]] = result.lease.token
        elif result.due_in_s is not None and 0 < result.due_in_s <= 1:
            self.sleep(result.due_in_s)
            return NotClaimed(due_in_s=0.0)
        return result

    def started(self, args: tuple[Any, ...], result: tuple[Accepted, Claimed] | None) -> object:
        if result is not None:
            accepted, claimed = result
            self.counts["started at once"] += 1
            self.acknowledged(args, result)
            self._newest[accepted.user_id] = claimed.lease.token
        return result

    def written(self, args: tuple[Any, ...], result: object) -> object:
        """Hold I9: a write whose token is not the newest must have been refused."""
        lease: Lease = args[0] if isinstance(args[0], Lease) else args[0].lease
        if lease.token < self._newest.get(lease.user_id, 0):
            self.violations.append(
                Violation("I9", f"user {lease.user_id}: written with token {lease.token}")
            )
        return result

    def settled(self, args: tuple[Any, ...], result: Settled) -> object:
        plan = args[2]
        self.counts[f"plan: {type(plan).__name__}"] += 1
        if getattr(plan, "gate", None) is not None:
            self.counts["gate closed"] += 1
        if getattr(plan, "reason", "") == "look again":
            self.counts["look again"] += 1
        self.written(args, result)
        if result.due_in_s is not None and 0 < result.due_in_s <= 1:
            self.sleep(result.due_in_s)
            return replace(result, due_in_s=0.0)
        return result

    def marked_landed(self, args: tuple[Any, ...], result: object) -> object:
        self.counts["late arrival explained"] += 1
        return self.written(args, result)

    def acknowledged(self, args: tuple[Any, ...], result: object) -> object:
        who = args[0].who
        self.accepted.append(
            MessageKey(
                channel=who.channel,
                recipient=who.recipient,
                address=who.address,
                thread=who.thread,
                message_id=args[0].message_id,
            )
        )
        return result


@dataclass(kw_only=True)
class Builder:
    """Builds worker processes that share a pool, a Telnyx and a broker."""

    settings: Settings
    pool: Pool
    telnyx: InProcessTelnyx
    broker: Broker
    sink: SinkChannel
    run_here: list[Due]
    watch: Watch

    def build(self) -> Hand:
        """Build one; it lives from its `begin_anew` on."""
        built = build_service(self.settings, broker=self.broker, channels={"chat": self.sink})
        _share(built, self.pool)
        taps = Taps(on_pass=self.watch.passed, refused=self.watch.refused)
        hand = Hand(service=self._tapped(built, taps), stores=built, taps=taps)
        taps.sprung = lambda trap, point: self._sprung(hand, trap, point)
        return hand

    def _sprung(self, hand: Hand, trap: Trap, point: str) -> None:
        self.watch.counts[f"trap: {trap.kind} at {point.partition('.')[0]}"] += 1
        if trap.kind == "hold" and trap.frozen:
            hand.beating = False

    def _tapped(self, built: Service, taps: Taps) -> Service:
        watch = self.watch
        answer = self._tapped_answer(built, taps)
        messages: Any = Tapped(
            built.receive.messages, "messages", taps, {"accept": watch.acknowledged}
        )
        starts: Any = Tapped(built.receive.starts, "starts", taps, {"start": watch.started})
        deliveries: Any = Tapped(built.deliver.store, "deliveries", taps)
        sweep: Any = built.background.sweep
        run: Any = Inline(lambda *due: self.run_here.append(Due(*due)))
        deliver: Any = Inline(self.broker.deliveries.append)
        sweep = replace(sweep, run_here=run, deliver_here=deliver)
        return replace(
            built,
            receive=replace(built.receive, messages=messages, answer=answer, starts=starts),
            answer=answer,
            deliver=replace(built.deliver, store=deliveries),
            background=replace(built.background, sweep=sweep),
        )

    def _tapped_answer(self, built: Service, taps: Taps) -> Any:  # noqa: ANN401 # an AnswerUser
        watch, answer, way = self.watch, built.answer, InProcessHttp(self.telnyx, taps)
        telnyx = Conversations(way)
        notes: dict[str, Callable[[tuple[Any, ...], Any], Any]] = {
            "record_intent": watch.written,
            "mark_human": watch.written,
            "settle": watch.settled,
            "mark_landed": watch.marked_landed,
        }
        turns: Any = Tapped(answer.turns, "turns", taps, notes)
        claims: Any = Tapped(answer.claims, "claims", taps, {"claim": watch.begun})
        notes = {"ensure": watch.written}
        mappings: Any = Tapped(answer.finder.store, "conversations", taps, notes)
        settle = replace(answer.settle, turns=turns)
        models = MethodType(TelnyxClient.model_ids, way)
        refusal = replace(answer.reconcile.refusal, turns=turns, models=models)
        return replace(
            answer,
            claims=claims,
            turns=turns,
            settle=settle,
            finder=replace(answer.finder, store=mappings, telnyx=telnyx),
            reconcile=replace(
                answer.reconcile, turns=turns, settle=settle, refusal=refusal, telnyx=telnyx
            ),
            conversations=telnyx,
            responses=Responses(way),
        )


def _share(service: Service, pool: Pool) -> None:
    """Let all workers of a schedule use one pool: connecting is dear, and a crash frees none."""
    seen: set[int] = set()

    def walk(part: object) -> None:
        if id(part) in seen:
            return
        seen.add(id(part))
        if isinstance(getattr(part, "_database", None), Pool):
            part._database = pool  # type: ignore[attr-defined]
        if dataclasses.is_dataclass(part):
            for each in dataclasses.fields(part):
                walk(getattr(part, each.name))
        elif hasattr(part, "__self__"):
            walk(part.__self__)

    walk(service)
