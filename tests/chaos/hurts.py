"""Carrying out planned faults. Each is a context: hurt on entry, heal on exit."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field

import psycopg

from tests.chaos.mix import JUMP_S, MODELS, OUTBOUND, STALE_S
from tests.chaos.parts import API_KEY
from tests.chaos.schedule import NATURES, Kind, Planned
from tests.chaos.stage import Seat, Stage
from tests.chaos.waits import AFTER_S, Span
from tests.support.processes import eventually
from tests.support.tcp_proxy import Mode, TcpProxy

_LINE_CUT_AFTER_S = 4.0
"""A load balancer lets go of a silent connection; then Telnyx knows that its client has left."""
_CALL_WITHIN_S = 6.0
_CALLS = """
SELECT c.id FROM calls c JOIN workers w ON w.id = c.worker_id
WHERE c.state = 'intended' AND w.pid = %s
"""
_HELD_ROWS = 30
_POISONED = 6


@dataclass(frozen=True)
class Hurts:
    """What each kind does to the stage."""

    stage: Stage
    turns: Mapping[str, threading.Lock] = field(
        default_factory=lambda: {
            part: threading.Lock() for part in ("postgres", "redis", "telnyx", "gateway")
        }
    )
    """On a busy machine a part takes longer to come back than planned; the next fault waits."""

    def __call__(self, planned: Planned) -> None:
        """Hurt, wait, heal."""
        with ExitStack() as stack:
            for part in NATURES[planned.kind].parts:
                if part in self.turns:
                    stack.enter_context(self.turns[part])
            stack.enter_context(self._context(planned))
            time.sleep(planned.lasts_s)

    def _context(self, planned: Planned) -> AbstractContextManager[object]:
        stage, place = self.stage, planned.target
        postgres, redis = stage.pair.proxy, stage.redis_proxy
        seat = stage.seats[place % len(stage.seats)]
        by_kind: dict[Kind, Callable[[], AbstractContextManager[object]]] = {
            Kind.KILL_WORKER: lambda: self._kill(seat),
            Kind.FREEZE_WORKER: lambda: self._frozen(seat),
            Kind.FREEZE_PAST_LEASE: lambda: self._frozen_and_cut_off(seat),
            Kind.ROLL_WORKER: lambda: self._terminate(seat),
            Kind.KILL_REDIS: self._redis_down,
            Kind.FLUSH_REDIS: self._flushed,
            Kind.HOLE_REDIS: lambda: self._ill(redis, Mode.BLACK_HOLE),
            Kind.RESET_REDIS: lambda: nullcontext(redis.reset_all()),
            Kind.REFUSE_REDIS: lambda: self._gone(redis),
            Kind.KILL_POSTGRES: self._postgres_down,
            Kind.RESET_POSTGRES: lambda: nullcontext(postgres.reset_all()),
            Kind.REFUSE_POSTGRES: lambda: self._gone(postgres),
            Kind.DROP_POSTGRES_ANSWERS: lambda: self._ill(postgres, Mode.DROP_ANSWERS),
            Kind.LOSE_COMMITS: self._commits_lost,
            Kind.READ_ONLY_POSTGRES: self._read_only,
            Kind.FAIL_OVER: self._failed_over,
            Kind.JUMP_CLOCK: lambda: nullcontext(stage.pair.jump(JUMP_S)),
            Kind.TERMINATE_BACKENDS: lambda: nullcontext(self._terminate_backends()),
            Kind.HOLD_ROWS: self._rows_held,
            Kind.KILL_TELNYX: self._telnyx_down,
            Kind.WRONG_KEY: self._wrong_key,
            Kind.WITHDRAW_MODEL: lambda: self._withdrawn(list(MODELS.values())[place % 4]),
            Kind.STALE_READS: self._stale_reads,
            Kind.KILL_GATEWAY: self._gateway_down,
            Kind.POISON_THREADS: lambda: nullcontext(self._poison_threads(place)),
        }
        return by_kind[planned.kind]()

    def _poison_threads(self, place: int) -> None:
        """Let Telnyx refuse some people's conversations for good, as when their context is full."""
        looker = self.stage.looker()
        try:
            # Of people who have not written for long, so that they may write again.
            rows = looker.rows(
                "SELECT c.telnyx_conversation_id AS id FROM conversations c"
                " JOIN channel_users u ON u.id = c.channel_user_id"
                " WHERE c.closed_at IS NULL AND c.telnyx_conversation_id IS NOT NULL"
                " AND u.open_turn_id IS NULL ORDER BY c.id OFFSET %s LIMIT %s",
                place,
                _POISONED,
            )
        finally:
            looker.close()
        self.stage.telnyx.poison(*(str(row["id"]) for row in rows))

    @contextmanager
    def _kill(self, seat: Seat) -> Iterator[None]:
        seat.killed = True
        seat.worker.kill()
        yield

    @contextmanager
    def _frozen(self, seat: Seat) -> Iterator[None]:
        seat.frozen, began = True, time.time()
        seat.worker.freeze()
        try:
            yield
        finally:
            seat.worker.thaw()
            seat.frozen = False
            self.stage.freezes.append((seat.worker.pid, Span(began, time.time() + AFTER_S)))

    def _wait_for_call(self, seat: Seat) -> None:
        """Wait a little until a call of this worker is under way: an idle one loses no lease."""
        looker = self.stage.looker()
        try:
            eventually(lambda: bool(looker.rows(_CALLS, seat.worker.pid)), timeout_s=_CALL_WITHIN_S)
        finally:
            looker.close()

    @contextmanager
    def _frozen_and_cut_off(self, seat: Seat) -> Iterator[None]:
        self._wait_for_call(seat)
        with self._frozen(seat):
            time.sleep(_LINE_CUT_AFTER_S)
            self.stage.telnyx_proxy.reset_all()
            yield

    @contextmanager
    def _terminate(self, seat: Seat) -> Iterator[None]:
        seat.terminated = time.monotonic()
        seat.worker.terminate()
        yield

    @contextmanager
    def _redis_down(self) -> Iterator[None]:
        self.stage.redis.kill()
        try:
            yield
        finally:
            self.stage.redis.restart()

    @contextmanager
    def _flushed(self) -> Iterator[None]:
        """Lose everything while the workers stand still, so that there is something to lose."""
        awake = [seat for seat in self.stage.seats if not seat.frozen and not seat.killed]
        for seat in awake:
            seat.worker.freeze()
        try:
            yield
            self._flush()
        finally:
            for seat in awake:
                seat.worker.thaw()

    def _flush(self) -> None:
        """FLUSHALL; what had been delivered to the sink was taken the instant before."""
        with self.stage.past_proxy() as client, self.stage.sink.lock:
            outbound, inbound, notes, _ = (
                client.pipeline(transaction=True)
                .lrange(OUTBOUND, 0, -1)
                .llen("inbound")
                .hlen("unacked")
                .flushall()
                .execute()
            )
            self.stage.sink.take(reversed(outbound))
            self.stage.lost_entries += inbound + notes

    @contextmanager
    def _ill(self, proxy: TcpProxy, mode: Mode) -> Iterator[None]:
        self.stage.set_mode(proxy, mode)
        try:
            yield
        finally:
            self.stage.set_mode(proxy, Mode.PASS)

    @contextmanager
    def _gone(self, proxy: TcpProxy) -> Iterator[None]:
        with self._ill(proxy, Mode.REFUSE):
            proxy.reset_all()
            yield

    @contextmanager
    def _postgres_down(self) -> Iterator[None]:
        self.stage.pair.primary.kill()
        try:
            yield
        finally:
            self.stage.pair.primary.restart()

    @contextmanager
    def _failed_over(self) -> Iterator[None]:
        self.stage.fail_over()
        try:
            yield
        finally:
            self.stage.pair.follow()

    @contextmanager
    def _commits_lost(self) -> Iterator[None]:
        """Carry out some commits whose answer never arrives."""
        for skip in (0, 3, 7):
            self.stage.pair.proxy.lose_answer_to(rb"COMMIT", skip=skip)
        yield

    @contextmanager
    def _read_only(self) -> Iterator[None]:
        """Take no writes, as a primary that has become a standby."""
        with self._connection() as connection:
            try:
                connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
                connection.execute("SELECT pg_reload_conf()")
                yield
            finally:
                connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
                connection.execute("SELECT pg_reload_conf()")

    def _terminate_backends(self) -> None:
        with self._connection() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'worker%'"
            )

    @contextmanager
    def _rows_held(self) -> Iterator[None]:
        """Another program has locked some people's rows."""
        with self._connection() as connection, connection.transaction():
            connection.execute(
                "SELECT FROM channel_users WHERE id %% 5 = %s LIMIT %s FOR UPDATE",
                [random.Random().randrange(5), _HELD_ROWS],  # noqa: S311 - no secret
            )
            yield

    @contextmanager
    def _telnyx_down(self) -> Iterator[None]:
        with self._ill(self.stage.telnyx_proxy, Mode.REFUSE):
            self.stage.telnyx.kill()
            try:
                yield
            finally:
                self.stage.telnyx.start()

    @contextmanager
    def _gateway_down(self) -> Iterator[None]:
        self.stage.gateway.kill()
        try:
            yield
        finally:
            self.stage.start_gateway()

    @contextmanager
    def _wrong_key(self) -> Iterator[None]:
        self.stage.telnyx.steer("key", api_key="KEY-another")
        try:
            yield
        finally:
            self.stage.telnyx.steer("key", api_key=API_KEY)

    @contextmanager
    def _withdrawn(self, model: str) -> Iterator[None]:
        began = time.time()
        self.stage.telnyx.steer("models", id=model, available=False)
        try:
            yield
        finally:
            self.stage.telnyx.steer("models", id=model, available=True)
            self.stage.withdrawals.append((model, began, time.time()))

    @contextmanager
    def _stale_reads(self) -> Iterator[None]:
        self.stage.telnyx.steer("config", messages_stale_s=STALE_S)
        try:
            yield
        finally:
            self.stage.telnyx.steer("config", messages_stale_s=0.0)

    def _connection(self) -> psycopg.Connection:
        return psycopg.connect(self.stage.pair.url_past_proxy, autocommit=True)
