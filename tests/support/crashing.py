"""Running the real handlers in a child process that dies, or freezes, at a chosen point.

Every call of a store (a transaction), every HTTP request and every delivery is a boundary. A run
without a stop writes down which boundaries it crosses; the next one stops before or after the n-th.

Children are forked by multiprocessing's fork server, which has imported everything beforehand: a
child costs some ten milliseconds, and no thread of the test process is forked with it.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal, cast

from tests.support.forked import context
from tests.support.world import NAMESPACE, RecordingBroker
from worker.bootstrap.operator import Operator
from worker.bootstrap.service import Service, build_service
from worker.channels.channel import Channel
from worker.channels.email.delivery.smtp import SmtpChannel
from worker.channels.sms.channel import TelnyxChannel
from worker.config.settings import Settings
from worker.domain.deliveries import DeliveryOutcome, OutgoingReply, Sent
from worker.domain.ids import ReplyId
from worker.telnyx.client import TelnyxClient
from worker.telnyx.conversations import Conversations
from worker.telnyx.responses import Responses
from worker.tools.http import HttpTool
from worker.tools.python import PythonTool

if TYPE_CHECKING:
    from worker.store.operators.drafts import DraftStore

Moment = Literal["before", "after"]
Step = (
    tuple[Literal["receive"], Mapping[str, object]]
    | tuple[Literal["answer", "deliver"], int]
    | tuple[Literal["event"], tuple[object, str | None]]
    | tuple[Literal["drain"], None]
    | tuple[Literal["decide"], tuple[ReplyId, str | None]]
)
"""`event`: a webhook's document, and the key in its path. `decide`: the draft that is approved, and
the text that goes out in its place."""
CHANNELS = {"keyed": True, "bare": False}
"""The channels that end in a file, and whether they take an idempotency key."""


@dataclass(frozen=True)
class FileChannel:
    """A provider: each call is a line in a file. The reader of it drops what a key says twice."""

    path: Path
    takes_key: bool

    def deliver(self, reply: OutgoingReply) -> DeliveryOutcome:
        line = json.dumps(
            {
                "key": str(reply.idempotency_key),
                "to": reply.to.address,
                "text": reply.text,
                "answers": reply.message_ids,
            }
        )
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode() + b"\n")
        finally:
            os.close(descriptor)
        return Sent()


def file_channels(path: Path) -> dict[str, FileChannel]:
    return {name: FileChannel(path, takes_key) for name, takes_key in CHANNELS.items()}


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Where the child ends: at the n-th boundary it crosses, from 0, which has this name."""

    index: int
    name: str
    moment: Moment
    by: signal.Signals = signal.SIGKILL


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a child does, and where."""

    database_url: str
    telnyx_base_url: str
    telnyx_api_key: str
    agents_file: Path
    sink: Path
    """Where the file channels write."""
    journal: Path
    """Where the child notes each boundary before it crosses it."""
    steps: tuple[Step, ...]
    stop: Stop | None = None
    smtp_url: str | None = None


@dataclass
class Boundary:
    """Notes what is crossed, and stops where it should."""

    journal: Path
    stop: Stop | None
    crossed: int = 0

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        index, self.crossed = self.crossed, self.crossed + 1
        with self.journal.open("a") as journal:
            journal.write(f"{name}\n")
        self._reach(index, name, "before")
        try:
            yield
        finally:
            self._reach(index, name, "after")

    def _reach(self, index: int, name: str, moment: Moment) -> None:
        stop = self.stop
        if stop is None or (stop.index, stop.moment) != (index, moment):
            return
        if stop.name != name:
            os._exit(3)
        os.kill(os.getpid(), stop.by)


class Watched:
    """Any object; each of its methods is a boundary."""

    def __init__(self, target: object, boundary: Boundary) -> None:
        self._target, self._boundary = target, boundary

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the target has
        value = getattr(self._target, name)
        if not callable(value):
            return value

        def call(*args: object, **kwargs: object) -> object:
            with self._boundary(self._label(name, args)):
                return value(*args, **kwargs)

        return call

    def _label(self, name: str, _args: tuple[object, ...]) -> str:
        return f"{type(self._target).__name__}.{name}"


class WatchedHttp(Watched):
    """Each HTTP request is a boundary."""

    def _label(self, name: str, _args: tuple[object, ...]) -> str:
        return "POST response" if name == "post_once" else f"HTTP {_args[0]}"


@dataclass(frozen=True, kw_only=True)
class WatchedSmtp(SmtpChannel):
    """Each mail is a boundary; inside of it is the note that only the end is missing."""

    boundary: Boundary

    def deliver_in_phases(
        self, reply: OutgoingReply, before_end: Callable[[], None]
    ) -> DeliveryOutcome:
        with self.boundary("SMTP mail"):
            return super().deliver_in_phases(reply, before_end)


def crossing(call: Callable[..., Any], label: str, boundary: Boundary) -> Callable[..., Any]:
    def crossed(*args: object) -> object:
        with boundary(label):
            return call(*args)

    return crossed


def watched_channel(channel: SmtpChannel | TelnyxChannel, boundary: Boundary) -> Channel:
    if isinstance(channel, TelnyxChannel):
        return replace(channel, post=crossing(channel.post, "POST text message", boundary))
    parts = {one.name: getattr(channel, one.name) for one in fields(channel)}
    return WatchedSmtp(**parts, boundary=boundary)


def watched(service: Service, boundary: Boundary) -> Service:
    """Put a boundary round every store, Telnyx client and channel that the handlers have."""
    done: dict[int, Any] = {}

    def watch(part: Any) -> Any:  # noqa: ANN401 - any field of any handler
        if id(part) not in done:
            done[id(part)] = (part, make(part))
        return done[id(part)][1]

    def make(part: Any) -> Any:  # noqa: ANN401
        module = type(part).__module__
        if isinstance(part, Conversations | Responses):
            return type(part)(WatchedHttp(part._http, boundary))  # type: ignore[arg-type]
        if isinstance(part, MethodType) and part.__func__ is TelnyxClient.model_ids:
            return MethodType(part.__func__, WatchedHttp(part.__self__, boundary))
        is_store = module.startswith("worker.store.") and type(part).__name__.endswith("Store")
        if is_store or isinstance(part, FileChannel | PythonTool | HttpTool):
            return Watched(part, boundary)
        if isinstance(part, SmtpChannel | TelnyxChannel):
            return watched_channel(part, boundary)
        if isinstance(part, Mapping):
            return {key: watch(value) for key, value in part.items()}
        if is_dataclass(part) and module.startswith("worker.handlers."):
            return replace(part, **{f.name: watch(getattr(part, f.name)) for f in fields(part)})  # type: ignore[type-var]
        return part

    service.background.drain_inbox = watch(service.background.drain_inbox)
    return replace(
        service,
        receive=watch(service.receive),
        take_event=watch(service.take_event),
        answer=watch(service.answer),
        deliver=watch(service.deliver),
    )


def settings_of(job: Job) -> Settings:
    return Settings(
        database_url=job.database_url,
        broker_url="redis://127.0.0.1:1/0",
        telnyx_api_key=job.telnyx_api_key,
        telnyx_base_url=job.telnyx_base_url,
        namespace=NAMESPACE,
        agents_file=job.agents_file,
        public_url="http://127.0.0.1:1",
        smtp_url=job.smtp_url,
    )


def do(job: Job) -> None:
    """The child: build a worker, heartbeat once, take the steps."""
    broker = RecordingBroker()
    service = build_service(settings_of(job), broker=broker, channels=file_channels(job.sink))
    service.background.workers.beat()
    boundary = Boundary(job.journal, job.stop)
    service = watched(service, boundary)
    operator = Operator(settings_of(job))

    def decide(given: tuple[ReplyId, str | None]) -> None:
        reply, text = given
        store = cast("DraftStore", Watched(operator.drafts.store, boundary))
        drafts = replace(operator.drafts, store=store)
        if text is None:
            drafts.approve(reply, by="ada")
        else:
            drafts.edit(reply, text, by="ada")

    act: dict[str, Callable[[Any], object]] = {
        "receive": lambda envelope: service.receive(envelope, raw=lambda: b"", queue="inbound"),
        "answer": service.answer,
        "deliver": service.deliver,
        "event": lambda given: service.take_event(*given),
        "drain": lambda _: service.background.drain_inbox(),
        "decide": decide,
    }
    for verb, what in job.steps:
        act[verb](what)
        while broker.deliveries:
            service.deliver(broker.deliveries.pop(0))
    operator.close()
    service.close()


@dataclass
class Child:
    """A running child."""

    process: ForkServerProcess
    job: Job = field(repr=False)

    @property
    def is_frozen(self) -> bool:
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def send(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait(self, timeout_s: float = 30) -> int | None:
        """Its exit code; negative = the signal that ended it."""
        self.process.join(timeout_s)
        return self.process.exitcode

    def boundaries(self) -> list[str]:
        return self.job.journal.read_text().splitlines() if self.job.journal.exists() else []


@contextmanager
def child(job: Job) -> Iterator[Child]:
    """Run a job in a child; at the end it is gone."""
    process = context.Process(target=do, args=(job,), daemon=True)
    process.start()
    try:
        yield Child(process, job)
    finally:
        process.kill()
        process.join()
        process.close()
