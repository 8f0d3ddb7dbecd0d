"""A service as it runs in production, and everything that it shows to those who watch it.

`worker up` runs the worker and Flower at LOG_LEVEL=DEBUG, a second worker runs at INFO. All servers
are real but Telnyx; every password and key is a canary.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from celery import Celery
from redis import Redis

from tests.support.canary import agents_file, names_in, word
from tests.support.cli import Up, worker_up
from tests.support.fleet import Fleet
from tests.support.gateway import ConsoleProcess
from tests.support.processes import eventually
from tests.support.raw_server import answers, http, raw_server
from tests.support.receiver import Receiver, receiver
from tests.support.world import NAMESPACE, Database
from worker.cli.local.service import free_port
from worker.sandbox.simulator import Simulator, SimulatorConfig

INSPECTED = (
    *("active", "reserved", "scheduled", "registered", "stats", "conf", "report"),
    *("active_queues", "revoked", "clock"),
)
FLOWER_USER = "ops"
OPEN_PAGES = ("/metrics", "/healthcheck")
"""What Flower shows without asking who looks."""


@dataclass(kw_only=True)
class Watched:
    """The service, and `told`: what each place has shown so far."""

    env: Mapping[str, str]
    up: Up
    fleet: Fleet
    simulator: Simulator
    database: Database
    redis: Redis
    hooks: Receiver
    flower: httpx.Client
    console: ConsoleProcess
    watcher: Celery
    told: dict[str, str] = field(default_factory=dict)

    def tell(self, place: str, text: str) -> None:
        """Keep what a place has shown."""
        self.told[place] = self.told.get(place, "") + text + "\n"

    def look(self) -> None:
        """Look everywhere, as it is now."""
        self.tell("Redis's names", names_in(self.redis))
        inspect = self.watcher.control.inspect(timeout=5, destination=self.names())
        for question in INSPECTED:
            answer = getattr(inspect, question)()
            assert len(answer) == 2, question
            self.tell(f"inspect {question}", json.dumps(answer, default=str, ensure_ascii=False))
        for page in ("/", "/workers", "/tasks", "/broker", *OPEN_PAGES):
            self.visit(page)
        for name in self.names():
            self.visit(f"/worker/{name}")
        self.visit("/api/workers?refresh=1&status=0")
        self.visit("/api/task/types")
        self.visit("/api/queues/length")
        for task in list(json.loads(self.visit("/api/tasks?limit=5000")))[::50]:
            self.visit(f"/task/{task}", place="/task/ID")
            self.visit(f"/api/task/info/{task}", place="/api/task/info/ID")
        columns = {"draw": 1, "start": 0, "length": 1000, "search[value]": ""}
        order = {"order[0][column]": 0, "order[0][dir]": "asc", "columns[0][data]": "name"}
        answer = self.flower.get("/tasks/datatable", params=columns | order)
        self.tell("Flower /tasks/datatable", answer.raise_for_status().text)

    def names(self) -> list[str]:
        """The names of the two workers."""
        return [
            next(iter(one))
            for one in self.watcher.control.ping(timeout=5, limit=2)  # without a limit: all of 5 s
        ]

    def flower_knows_all(self) -> bool:
        """Whether Flower is up and has asked both workers what they are."""
        pages = ["/healthcheck", *(f"/worker/{name}" for name in self.names())]
        try:
            return {self.flower.get(page).status_code for page in pages} == {200}
        except httpx.TransportError:
            return False

    def visit(self, page: str, *, place: str | None = None) -> str:
        """Read one of Flower's pages."""
        text = self.flower.get(page).raise_for_status().text
        self.tell(f"Flower {place or page.partition('@')[0]}", text)
        return text

    def lines(self) -> list[dict[str, Any]]:
        """What both workers have logged."""
        found = []
        for text in (self.up.output.read_text(errors="replace"), self.fleet.workers[0].output()):
            for line in text.splitlines():
                with suppress(ValueError):
                    found.append(json.loads(line))
        return [one for one in found if isinstance(one, dict)]


@contextmanager
def listening(watched: Watched) -> Iterator[None]:
    """Hear Celery's events, and the names of the Redis channels that live replies go to."""
    stopped = threading.Event()

    def hear_events() -> None:
        events: list[dict[str, Any]] = []
        with watched.watcher.connection() as connection:
            receiver = watched.watcher.events.Receiver(connection, handlers={"*": events.append})
            with receiver.consumer_context(wakeup=False) as (drained, _, _):
                while not stopped.is_set():
                    with suppress(TimeoutError):
                        drained.drain_events(timeout=0.2)
        watched.tell("Celery's events", "\n".join(json.dumps(one, default=str) for one in events))

    def hear_topics() -> None:
        with watched.redis.pubsub() as ear:
            ear.psubscribe("worker:live:*")
            while not stopped.is_set():
                if message := ear.get_message(timeout=0.2):
                    watched.tell("live channels", str(message["channel"]))

    threads = [threading.Thread(target=hear) for hear in (hear_events, hear_topics)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


@contextmanager
def watched_service(folder: Path, *, database_url: str, redis: Redis) -> Iterator[Watched]:
    """Run it; at the end nothing of it is left."""
    config = SimulatorConfig(api_key=f"KEY-{word('telnyx')}", list_visible_after_s=0)
    port = redis.connection_pool.connection_kwargs["port"]
    # One more password beside the server's own, to be searched for.
    redis.execute_command("ACL", "SETUSER", "default", f">{word('broker')}")
    agents = folder / "agents.toml"
    with (
        Simulator(config) as simulator,
        receiver() as hooks,
        raw_server(answers(http({word("tool-said"): word("tool-output")}))) as tool,
    ):
        agents.write_text(agents_file(hook=hooks.url, tool=tool.url))
        env = {
            "DATABASE_URL": database_url.replace("postgres@", f"postgres:{word('database')}@", 1),
            "BROKER_URL": f"redis://default:{word('broker')}@127.0.0.1:{port}/0",
            "TELNYX_API_KEY": config.api_key,
            "TELNYX_BASE_URL": simulator.base_url,
            "NAMESPACE": str(NAMESPACE),
            "AGENTS_FILE": str(agents),
            "SANDBOX_DIR": str(folder / "none"),
            "CONCURRENCY": "20",
            "CANARY_SECRET": "whsec_" + "Q0FOQVJZLWI3ZTE" * 3 + "Cg==",
            "FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{word('flower')}",
            "CONSOLE_TOKENS": f"{word('staff')}:{word('console-token')}",
        }
        flower_port = free_port(0)
        fleet = Fleet(
            folder=folder,
            database_url=env["DATABASE_URL"],
            broker_url=env["BROKER_URL"],
            telnyx_base_url=simulator.base_url,
            telnyx_api_key=config.api_key,
            agents=agents.read_text(),
        )
        output = folder / "up.log"
        flags = ("--flower-port", str(flower_port))
        with (
            ExitStack() as stack,
            fleet,
            worker_up(*flags, env=env | {"LOG_LEVEL": "DEBUG"}, output=output) as up,
            httpx.Client(
                base_url=f"http://127.0.0.1:{flower_port}",
                auth=(FLOWER_USER, word("flower")),
                timeout=10,
            ) as flower,
        ):
            console = ConsoleProcess(folder, env | {"LOG_LEVEL": "DEBUG"})
            stack.callback(console.kill)
            fleet.start(LOG_LEVEL="INFO", CANARY_SECRET=env["CANARY_SECRET"])
            up.await_text("the service is up")
            database = Database(database_url)
            watcher = Celery(broker=env["BROKER_URL"], set_as_current=False)
            watcher.conf.update(control_exchange="worker", event_exchange="workerev")
            watched = Watched(
                env=env,
                up=up,
                fleet=fleet,
                simulator=simulator,
                database=database,
                redis=redis,
                hooks=hooks,
                flower=flower,
                console=console,
                watcher=watcher,
            )
            try:
                assert eventually(watched.flower_knows_all, timeout_s=60)
                yield watched
            finally:
                watched.watcher.close()
                database.close()
