"""Everything a running simulator holds. Touched by its event loop only, so nothing here locks."""

import asyncio
import math
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from worker.sandbox.simulator.behaviour.config import SimulatorConfig, changed
from worker.sandbox.simulator.behaviour.faults import FaultBook
from worker.sandbox.simulator.behaviour.model import Script
from worker.sandbox.simulator.behaviour.plans import Endpoint, Plan
from worker.sandbox.simulator.record.events import ExecutionEnded, Started, Steered
from worker.sandbox.simulator.record.log import EventLog
from worker.sandbox.simulator.record.values import Json
from worker.sandbox.simulator.state.departures import Departures
from worker.sandbox.simulator.state.sms_store import SmsStore
from worker.sandbox.simulator.state.store import Store
from worker.sandbox.simulator.state.webhooks import Webhooks


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request on its way through the simulator."""

    number: int
    """The sequence number of its `RequestReceived`."""
    endpoint: Endpoint
    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: dict[str, str]
    raw: bytes
    payload: object
    """The parsed body; None if there was none or it was not JSON."""
    conversation_id: str | None
    gone: Callable[[], bool]
    """Whether the client has closed its connection."""
    plan: Plan = field(default_factory=Plan)
    ended: bool = False
    reports: asyncio.Task[None] | None = None
    """Of a text message: its way to the phone, with the events about it."""
    goes_on: bool = False
    """Whether it is still being carried out when its answer is written."""


class State:
    """The parts of the simulator, and the values that several of them need."""

    def __init__(self, config: SimulatorConfig, log_path: Path | None) -> None:
        self.config = config
        self.log = EventLog(log_path)
        self.store = Store(self.log)
        self.sms = SmsStore(self.log)
        self.webhooks = Webhooks(self.log, config.seed)
        self.faults = FaultBook(config.seed)
        self.scripts: list[Script] = []
        self.withdrawn: set[str] = set()
        """Models that are not offered for the time being."""
        self.running_keys: dict[str, str] = {}
        """Idempotency keys whose first request has not ended, with the fingerprint of its body."""
        self.turnstiles: dict[str, asyncio.Lock] = {}
        """Locks of conversations that are served one request after the other."""
        self.departures = Departures()
        self._dice = random.Random(f"latency {config.seed}")  # noqa: S311 - no secret
        self.dice = random.Random(f"events {config.seed}")  # noqa: S311 - no secret
        """Of the order of events."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.log.append(Started(seed=config.seed))

    def steered(self, action: str, **detail: object) -> None:
        """Write down that somebody changed something."""
        self.log.append(Steered(action=action, detail=dict(detail)))

    def reconfigure(self, changes: Json) -> None:
        """Change settings while it runs; ValueError for an impossible value."""
        self.config = changed(self.config, changes)
        self.steered("reconfigure", **changes)

    def models(self) -> tuple[str, ...]:
        """Return the models that are offered now."""
        return tuple(each for each in self.config.models if each not in self.withdrawn)

    def latency_s(self) -> float:
        """Draw the time of one model run."""
        config = self.config
        if not config.latency_sigma:
            return config.latency_s
        drawn = config.latency_s * math.exp(self._dice.gauss(0, config.latency_sigma))
        return min(drawn, config.latency_max_s)

    def script_for(self, text: str) -> Script | None:
        """Take the first script that fits these words."""
        for place, script in enumerate(self.scripts):
            if script.text in text:
                if script.count is not None:
                    left = script.count - 1
                    rest = [_with_count(script, left)] if left > 0 else []
                    self.scripts[place : place + 1] = rest
                return script
        return None

    def end(self, exchange: Exchange) -> None:
        """Write down, once, that this request changes nothing any more."""
        if not exchange.ended:
            exchange.ended = True
            self.log.append(ExecutionEnded(request=exchange.number))

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Let something go on after its request."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Cancel the work that still runs."""
        await self.departures.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.webhooks.close()


def new_id(prefix: str) -> str:
    """Make an identifier that no other process makes."""
    return f"{prefix}_{uuid4().hex[:24]}"


def _with_count(script: Script, count: int) -> Script:
    return Script(text=script.text, reply=script.reply, calls=script.calls, count=count)
