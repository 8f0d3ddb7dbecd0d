"""Everything a campaign runs on: servers, a proxy before each, what takes replies, workers."""

import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kombu import Connection
from redis import Redis

from tests.chaos.mix import HANG_UPS, OUTBOUND, WEBHOOK_FAILS, WEBHOOK_SECRET, agents_file
from tests.chaos.outside import TOKEN
from tests.chaos.pair import Pair, running_pair, true_time
from tests.chaos.parts import API_KEY, Looker, TelnyxProcess, free_port
from tests.chaos.sink import Sink
from tests.chaos.tools import LEDGER
from tests.chaos.waits import Span
from tests.support import pgbouncer
from tests.support.databases import CLOCKED
from tests.support.fleet import Fleet, RealWorker
from tests.support.gateway import GatewayProcess
from tests.support.programs import are_installed
from tests.support.rabbitmq import running_rabbitmq
from tests.support.receiver import Receiver, receiver
from tests.support.smtp_server import HANG_UP, Mailbox, smtp_server
from tests.support.tcp_proxy import Mode, TcpProxy, postgres_socket
from tests.support.telnyx_events import PUBLIC_KEY
from worker.sandbox.redis import EmbeddedRedis

CONCURRENCY = 40
RESTART_PAUSE_S = 1.0
"""As a supervisor waits before it starts a worker again."""
TERM_WITHIN_S = 30.0
"""A worker that was told to end is killed after so long; its exit code -9 shows it."""
_LISTEN_S = 20.0


@dataclass
class Exit:
    """A worker that ended without being killed by us."""

    worker: str
    code: int | None
    lived_s: float
    wanted: bool
    """We had sent SIGTERM."""


@dataclass
class Seat:
    """A place for one worker process; the one there is replaced when it ends."""

    worker: RealWorker
    since: float
    killed: bool = False
    terminated: float | None = None
    """When SIGTERM was sent."""
    frozen: bool = False
    ended: float | None = None


@dataclass(kw_only=True)
class Stage:
    """The parts."""

    folder: Path
    pair: Pair
    redis: EmbeddedRedis
    telnyx: TelnyxProcess
    pooled: TcpProxy
    """Between PgBouncer and the primary."""
    odd_env: Mapping[str, str]
    """Of the last worker: it is behind PgBouncer and on RabbitMQ, if this machine has them."""
    redis_proxy: TcpProxy
    telnyx_proxy: TcpProxy
    fleet: Fleet
    sink: Sink
    receiver: Receiver
    """What has left by webhook."""
    answers: Sequence[int]
    """What the receiver says to it."""
    box: Mailbox
    """What has left by SMTP."""
    smtp_url: str
    gateway_port: int = field(default_factory=free_port)
    seats: list[Seat] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    withdrawals: list[tuple[str, float, float]] = field(default_factory=list)
    """Models, from when and until when, in true seconds since 1970."""
    freezes: list[tuple[int, Span]] = field(default_factory=list)
    """Process ids of workers that slept, and when."""
    lost_entries: int = 0
    """Entries that lay in Redis when it was flushed."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def ledger(self) -> Path:
        """What the agents' tool has noted."""
        return self.folder / "ledger"

    def noted(self) -> list[str]:
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []

    def looker(self) -> Looker:
        return Looker(lambda: self.pair.url_past_proxy)

    def fail_over(self) -> None:
        """Let the standby take over; PgBouncer is told, as by its operator."""
        self.pair.fail_over()
        self.pooled.retarget(postgres_socket(self.pair.primary.url))
        self.pooled.reset_all()

    def past_proxy(self) -> Redis:
        """Give a client of Redis that no fault of the proxy reaches."""
        return Redis.from_url(self.redis.url, socket_timeout=5.0)

    def was_withdrawn(self, model: str, at: float) -> bool:
        """Whether Telnyx lacked a model at a time that Postgres' clock showed."""
        at = true_time(self.pair.jumps, at)
        return any(one == model and a <= at <= b for one, a, b in self.withdrawals)

    def start_gateway(self) -> None:
        """Start it on the port that stays; returns when it answers."""
        keys = " ".join((PUBLIC_KEY, *self.telnyx.public_keys()))
        settings = {"GATEWAY_TOKEN": TOKEN, "TELNYX_PUBLIC_KEY": keys}
        self.gateway = GatewayProcess.beside(self.fleet, port=self.gateway_port, **settings)

    def start_workers(self, number: int) -> None:
        self.seats = [self._seat(odd=place == number - 1) for place in range(number)]
        self.fleet.wait_ready(*(seat.worker for seat in self.seats))

    def replace_the_dead(self) -> None:
        """Start a new worker in each place whose worker has ended, a moment later."""
        with self._lock:
            for place, seat in enumerate(self.seats):
                if seat.worker.is_running:
                    self._end_the_stuck(seat)
                    continue
                if seat.ended is None:
                    seat.ended = time.monotonic()
                    self._note_end(seat)
                elif time.monotonic() - seat.ended > RESTART_PAUSE_S:
                    self.seats[place] = self._seat(odd=seat is self.seats[-1])

    def all_fresh(self) -> None:
        """Kill the one that runs, and start anew."""
        with self._lock:
            for seat in self.seats:
                seat.worker.kill()
            self.seats = [self._seat(odd=seat is self.seats[-1]) for seat in self.seats]

    def set_mode(self, proxy: TcpProxy, mode: Mode) -> None:
        """Make a proxy ill or well; its port may be somebody's for an instant."""
        deadline = time.monotonic() + _LISTEN_S
        while True:
            try:
                proxy.mode = mode
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def _end_the_stuck(self, seat: Seat) -> None:
        if seat.terminated and time.monotonic() - seat.terminated > TERM_WITHIN_S:
            seat.worker.kill()

    def _seat(self, *, odd: bool) -> Seat:
        env = {
            **(self.odd_env if odd else {}),
            WEBHOOK_SECRET: "whsec_" + "c2VjcmV0" * 6,
            LEDGER: str(self.ledger),
            "SMTP_URL": self.smtp_url,
            "PUBLIC_URL": f"http://127.0.0.1:{self.gateway_port}",
        }
        (worker,) = self.fleet.start(1, ready=False, **env)
        return Seat(worker=worker, since=time.monotonic())

    def _note_end(self, seat: Seat) -> None:
        if not seat.killed:
            self.exits.append(
                Exit(
                    worker=seat.worker.name,
                    code=seat.worker.exit_code,
                    lived_s=round(time.monotonic() - seat.since, 1),
                    wanted=seat.terminated is not None,
                )
            )


@contextmanager
def running_stage(folder: Path, *, seed: int, workers: int) -> Iterator[Stage]:
    """Start everything in this folder; whatever happens, no process stays."""
    with ExitStack() as stack:
        pair = stack.enter_context(running_pair(folder))
        redis = stack.enter_context(EmbeddedRedis(folder / "redis"))
        telnyx = TelnyxProcess(folder, seed=seed)
        stack.callback(telnyx.kill)
        telnyx.start()
        redis_proxy = stack.enter_context(TcpProxy(("127.0.0.1", redis.port)))
        telnyx_proxy = stack.enter_context(TcpProxy(("127.0.0.1", telnyx.port)))
        pooled = stack.enter_context(TcpProxy(postgres_socket(pair.primary.url)))
        sink = stack.enter_context(receiver())
        dice = random.Random(f"ways out {seed}")  # noqa: S311 - a seeded play, no secret
        answers = [500 if dice.random() < WEBHOOK_FAILS else 200 for _ in range(9999)]
        sink.answers["/replies"] = list(answers)
        logs = folder / "workers"
        logs.mkdir()
        fleet = stack.enter_context(
            Fleet(
                folder=logs,
                database_url=pair.url,
                broker_url=redis.url_of(0, port=redis_proxy.port),
                telnyx_base_url=f"http://127.0.0.1:{telnyx_proxy.port}/v2",
                telnyx_api_key=API_KEY,
                agents=agents_file(f"{sink.url}/replies"),
                concurrency=CONCURRENCY,
                forked=False,
            )
        )
        box = Mailbox({"end": [HANG_UP if dice.random() < HANG_UPS else "" for _ in range(9999)]})
        port = stack.enter_context(smtp_server(box))
        stage = Stage(
            folder=folder,
            pair=pair,
            redis=redis,
            telnyx=telnyx,
            pooled=pooled,
            odd_env=_odd_env(stack, folder, pair, pooled),
            redis_proxy=redis_proxy,
            telnyx_proxy=telnyx_proxy,
            fleet=fleet,
            sink=Sink(Redis.from_url(redis.url, socket_timeout=5.0)),
            receiver=sink,
            answers=answers,
            box=box,
            smtp_url=f"smtp://127.0.0.1:{port}?plain=true",
        )
        stage.start_gateway()
        stack.callback(lambda: stage.gateway.kill())  # noqa: PLW0108 - the one that runs then
        stage.start_workers(workers)
        yield stage


def _odd_env(stack: ExitStack, folder: Path, pair: Pair, pooled: TcpProxy) -> dict[str, str]:
    env = {}
    if pgbouncer.IS_HERE:
        owner = postgres_socket(pair.primary.url).parent.stat().st_uid
        port = stack.enter_context(pgbouncer.before("127.0.0.1", pooled.port, owner))
        env["DATABASE_URL"] = f"postgresql://postgres@127.0.0.1:{port}/{CLOCKED}"
        env["LISTEN_DATABASE_URL"] = pair.url
        env["DATABASE_PREPARE"] = "false"
    if are_installed("rabbitmq-server"):
        place = folder / "rabbitmq"
        place.mkdir()
        env["BROKER_URL"] = stack.enter_context(running_rabbitmq(place))
        # Its consumer does so: what has no queue is not taken there, and waits for another worker.
        with Connection(env["BROKER_URL"]) as connection, connection.channel() as one:
            one.queue_declare(OUTBOUND, durable=True, auto_delete=False)
    return env
