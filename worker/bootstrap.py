"""The one place that builds things: from settings to the running parts of a worker."""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from worker.channels.port import DEADLINE_S, Channel
from worker.channels.task import TaskChannel
from worker.domain.agents import Routing
from worker.domain.ids import ChannelUserId, WorkerId
from worker.handlers.accept import AcceptEnvelope
from worker.handlers.answer import AnswerUser
from worker.handlers.conversations import ConversationFinder
from worker.handlers.deliver import DeliverReplies
from worker.handlers.lookback import LookBackAtThread
from worker.handlers.operate import PauseUser, Replay
from worker.handlers.receive import ReceiveEnvelope
from worker.handlers.settling import Settle
from worker.handlers.slots import TurnSlots
from worker.handlers.sweep import Background, LocalRunner, Sweep
from worker.handlers.watchdog import Intake, StallWatchdog
from worker.settings import Settings, load_agents
from worker.store.claims import ClaimStore
from worker.store.conversations import ConversationStore
from worker.store.database import Database
from worker.store.dead_letters import DeadLetterStore
from worker.store.deliveries import DeliveryStore
from worker.store.messages import MessageStore
from worker.store.people import PeopleStore
from worker.store.sweeps import SweepStore
from worker.store.turns import TurnStore
from worker.store.workers import WorkerStore
from worker.telnyx.client import TelnyxClient

LOCAL_DELIVERIES = 8
"""Threads of a process that try deliveries again; first attempts are Celery tasks."""

STALLED = 70
"""Exit code of a worker that ended itself because it took nothing (EX_SOFTWARE of sysexits.h)."""


class Broker(Intake, Protocol):
    """What the service needs of Celery."""

    def wake(self, users: Sequence[ChannelUserId]) -> None:
        """Put a wake for each user on the queue. Raises `CannotPublishError`."""

    def wake_delivery(self, user_id: ChannelUserId) -> None:
        """Put a wake for a user's deliveries on the queue; never raises: it is a hint."""

    def publish(self, task: str, queue: str, task_id: str, kwargs: dict[str, Any]) -> None:
        """Put a task of somebody else on his queue. Raises `NotPublishedError`."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """Everything one worker process runs."""

    receive: ReceiveEnvelope
    answer: AnswerUser
    deliver: DeliverReplies
    dead_letters: DeadLetterStore
    background: Background
    close: Callable[[], None]


def build_service(
    settings: Settings, *, broker: Broker, channels: Mapping[str, Channel] | None = None
) -> Service:
    """Build a worker's parts; nothing is started and no connection made. Raises `SettingsError`.

    `channels`: ways out by channel name, before those that the configuration names.
    """
    routing, timing = load_agents(settings.agents_file)
    worker_id = WorkerId(uuid4())
    lease_s = timing.lease_s(max(agent.call_timeout_s for agent in routing.agents.values()))
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    telnyx = TelnyxClient(settings.telnyx_api_key, base_url=settings.telnyx_base_url)
    # Heartbeat and sweeper never wait behind two hundred threads for a connection.
    own_database = Database(settings.database_url, pool_size=2, name="worker-background")
    sweeps = SweepStore(own_database, wake_ttl_s=timing.wake_ttl_s)
    slots = TurnSlots(settings.turn_slots)
    turns = TurnStore(database, worker_id=worker_id, lease_s=lease_s)
    settle = Settle(turns=turns, wake_delivery=broker.wake_delivery)
    answer = AnswerUser(
        claims=ClaimStore(database, worker_id=worker_id, routing=routing, lease_s=lease_s),
        turns=turns,
        settle=settle,
        finder=ConversationFinder(
            store=ConversationStore(database, lease_s=lease_s),
            telnyx=telnyx.conversations,
            namespace=settings.namespace,
        ),
        look_back=LookBackAtThread(
            turns=turns, settle=settle, telnyx=telnyx.conversations, timing=timing
        ),
        conversations=telnyx.conversations,
        responses=telnyx.responses,
        routing=routing,
        timing=timing,
        slots=slots,
        forget_wake=sweeps.forget_wake,
    )
    dead_letters = DeadLetterStore(database)
    workers = WorkerStore(
        own_database,
        worker_id=worker_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        alive_s=timing.alive_s,
    )
    deliveries = DeliveryStore(database, lease_s=DEADLINE_S + timing.lease_margin_s)
    deliver = DeliverReplies(
        store=deliveries, routing=routing, channels=_channels(routing, broker, channels)
    )
    local = LocalRunner(answer, threads=settings.turn_slots, name="turn")
    deliver_here = LocalRunner(deliver, threads=LOCAL_DELIVERIES, name="delivery")
    sweep = Sweep(
        sweeps=sweeps,
        slots=slots,
        timing=timing,
        publish=broker.wake,
        run_here=local,
        deliveries=deliveries,
        deliver_here=deliver_here,
    )

    def close() -> None:
        local.close()
        deliver_here.close()
        telnyx.close()
        database.close()
        own_database.close()

    return Service(
        receive=ReceiveEnvelope(
            accept=AcceptEnvelope(messages=MessageStore(database), routing=routing),
            dead_letters=dead_letters,
            answer=answer,
            slots=slots,
        ),
        answer=answer,
        deliver=deliver,
        dead_letters=dead_letters,
        background=Background(
            beat=workers.beat,
            leave=workers.leave,
            sweep=sweep,
            watchdog=StallWatchdog(
                intake=broker, slots=slots, timing=timing, exit=lambda: os._exit(STALLED)
            ),
            slots=slots,
            timing=timing,
        ),
        close=close,
    )


@dataclass(frozen=True, kw_only=True)
class Operator:
    """What a person's commands work with; it runs no turns."""

    people: PeopleStore
    pause: PauseUser
    dead_letters: DeadLetterStore
    replay: Replay
    close: Callable[[], None]


def build_operator(settings: Settings) -> Operator:
    """Build the parts of the operators' commands. Raises `SettingsError`."""
    routing, _ = load_agents(settings.agents_file)
    database = Database(settings.database_url, pool_size=2, name="worker-cli")
    telnyx = TelnyxClient(settings.telnyx_api_key, base_url=settings.telnyx_base_url)
    people = PeopleStore(database)
    dead_letters = DeadLetterStore(database)

    def close() -> None:
        telnyx.close()
        database.close()

    return Operator(
        people=people,
        pause=PauseUser(people=people, telnyx=telnyx.conversations),
        dead_letters=dead_letters,
        replay=Replay(
            letters=dead_letters,
            accept=AcceptEnvelope(messages=MessageStore(database), routing=routing),
        ),
        close=close,
    )


def _channels(
    routing: Routing, broker: Broker, given: Mapping[str, Channel] | None
) -> dict[str, Channel]:
    channels: dict[str, Channel] = {
        policy.name: TaskChannel(
            publish=broker.publish, task=policy.delivery.task, queue=policy.delivery.queue
        )
        for policy in routing.channels.values()
        if policy.delivery is not None
    }
    return channels | dict(given or {})
