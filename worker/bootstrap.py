"""The one place that builds things: from settings to the running parts of a worker."""

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import uuid4

from worker.domain.ids import ChannelUserId, WorkerId
from worker.handlers.answer import AnswerUser
from worker.handlers.conversations import ConversationFinder
from worker.handlers.lookback import LookBackAtThread
from worker.handlers.receive import ReceiveEnvelope
from worker.handlers.slots import TurnSlots
from worker.handlers.sweep import Background, LocalRunner, Sweep
from worker.settings import Settings, load_agents
from worker.store.claims import ClaimStore
from worker.store.conversations import ConversationStore
from worker.store.database import Database
from worker.store.dead_letters import DeadLetterStore
from worker.store.messages import MessageStore
from worker.store.sweeps import SweepStore
from worker.store.turns import TurnStore
from worker.store.workers import WorkerStore
from worker.telnyx.client import TelnyxClient


@dataclass(frozen=True, kw_only=True)
class Service:
    """Everything one worker process runs."""

    receive: ReceiveEnvelope
    answer: AnswerUser
    dead_letters: DeadLetterStore
    background: Background
    close: Callable[[], None]


def build_service(
    settings: Settings, *, publish: Callable[[Sequence[ChannelUserId]], None]
) -> Service:
    """Build a worker's parts; nothing is started and no connection made. Raises `SettingsError`.

    `publish` puts wakes on the queue; raises `CannotPublishError`.
    """
    routing, timing = load_agents(settings.agents_file)
    worker_id = WorkerId(uuid4())
    lease_s = timing.lease_s(max(agent.call_timeout_s for agent in routing.agents.values()))
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    telnyx = TelnyxClient(settings.telnyx_api_key, base_url=settings.telnyx_base_url)
    slots = TurnSlots(settings.turn_slots)
    turns = TurnStore(database, worker_id=worker_id, lease_s=lease_s)
    answer = AnswerUser(
        claims=ClaimStore(database, worker_id=worker_id, routing=routing, lease_s=lease_s),
        turns=turns,
        finder=ConversationFinder(
            store=ConversationStore(database, lease_s=lease_s),
            telnyx=telnyx.conversations,
            namespace=settings.namespace,
        ),
        look_back=LookBackAtThread(turns=turns, telnyx=telnyx.conversations, timing=timing),
        conversations=telnyx.conversations,
        responses=telnyx.responses,
        routing=routing,
        timing=timing,
        slots=slots,
    )
    dead_letters = DeadLetterStore(database)
    workers = WorkerStore(
        database,
        worker_id=worker_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        alive_s=timing.alive_s,
    )
    local = LocalRunner(answer, threads=settings.turn_slots)
    sweep = Sweep(
        sweeps=SweepStore(database, wake_ttl_s=timing.wake_ttl_s),
        slots=slots,
        timing=timing,
        publish=publish,
        run_here=local,
    )

    def close() -> None:
        local.close()
        telnyx.close()
        database.close()

    return Service(
        receive=ReceiveEnvelope(
            messages=MessageStore(database),
            dead_letters=dead_letters,
            answer=answer,
            routing=routing,
            slots=slots,
        ),
        answer=answer,
        dead_letters=dead_letters,
        background=Background(
            beat=workers.beat, leave=workers.leave, sweep=sweep, slots=slots, timing=timing
        ),
        close=close,
    )
